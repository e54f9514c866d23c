"""The commands and programs in README and docs, and the test that runs each.

A block is known by its page and its first line. `RUN` are those that tests/integration/test_written_blocks.py
runs as they stand; `ELSEWHERE` says of the others what runs them, or why nothing can.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if "node_modules" not in path.parts
)
_BLOCK: Final = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PROGRAMS: Final = ("console", "sh", "bash", "python", "yaml")
"""Languages of blocks that somebody runs, or gives to a program that is run."""


class Block(NamedTuple):
    """One block of a page."""

    page: str
    """Below the root of the repository."""
    language: str
    text: str
    """Without the indentation that all its lines have."""

    @property
    def first(self) -> str:
        """What the block is known by: its first line, without prompt and comment."""
        return re.sub(r"\s+#.*", "", self.text.splitlines()[0].removeprefix("$ ")).strip()

    @property
    def script(self) -> str:
        """What somebody types: prompts off."""
        return re.sub(r"^\$ ", "", self.text, flags=re.MULTILINE)


def blocks(*languages: str) -> list[Block]:
    """Every block of the pages in one of the languages."""
    return [
        Block(str(page.relative_to(ROOT)), language, textwrap.dedent(text))
        for page in PAGES
        for language, text in _BLOCK.findall(page.read_text("utf-8"))
        if language in languages
    ]


def block(page: str, first: str) -> Block:
    """The block that begins so."""
    (found,) = [
        one for one in blocks(*PROGRAMS) if one.page == page and one.first.startswith(first)
    ]
    return found


WHOLE: Final = {
    "docs/tutorial/first-hour.md": "tests/integration/test_whole_pages.py",
    "docs/how-to/daily.md": "tests/integration/test_whole_pages.py",
}
"""Pages whose blocks are run one after the other, all of them, with the output that is shown below each."""
RUN: Final = frozenset(
    {
        ("README.md", "python -m connector send --url ws://127.0.0.1:BTP_PORT"),
        ("README.md", "python -m connector pay"),
        ("README.md", "mkdir -p hub-secrets"),
        ("README.md", "nodeId: hub"),
        ("README.md", "import asyncio"),
        ("docs/accounting.md", "sqlite3 -readonly"),
        ("docs/admin-api.md", "curl -H"),
        ("docs/configuration.md", "nodeId: alice"),
        ("docs/conformance.md", "connector conformance --next-auth"),
        ("docs/conformance.md", "connector conformance --url"),
        ("docs/deployment.md", "export TRUSTED_PROXIES"),
        ("docs/deployment.md", "python -m connector run"),
        ("docs/how-to/upgrade.md", "cp -a data data-before-0.2.0"),
        ("docs/how-to/upgrade.md", "ilp-connector check-config"),
        ("docs/how-to/upgrade.md", "ilp-connector healthcheck"),
        ("docs/how-to/upgrade.md", "mv data data-of-0.2.0"),
        ("docs/ilp-over-http.md", "export SECRET="),
        ("docs/operating.md", "connector init alice-node"),
        ("docs/operating.md", "connector audit --url"),
        ("docs/operating.md", "connector log --since"),
        ("docs/operating.md", "connector nodes add"),
        ("docs/operating.md", "umask 077"),
        ("docs/payments.md", "PAY_PORT=3100"),
        ("docs/payments.md", "curl -s -H"),
        ("docs/payments.md", "python -m connector pay"),
        ("docs/payments.md", "result = await node.pay"),
        ("docs/routing.md", "export HUB="),
        ("docs/settlement.md", "export BTP_PEER_BOB_SETTLE_THRESHOLD"),
        ("docs/settlement.md", "export ADMIN_API_KEY"),
        ("docs/simulation.md", "from connector.simulation.draw"),
        ("docs/tigerbeetle.md", "mkdir -p /var/lib/tigerbeetle"),
        ("docs/tigerbeetle.md", "export TIGERBEETLE_CLUSTER_ID=42"),
        ("docs/tigerbeetle.md", "python -m connector audit --nodes alice,bob"),
        ("docs/tools.md", "connector explain"),
        ("docs/tools.md", "connector ping"),
        ("docs/tools.md", "connector trace"),
    }
)

_ON_THE_ENGINE = "tests/compose, on a Docker engine"
_OF_SCRIPTS = "tests/integration/test_tigerbeetle_script.py, in a sandbox and without the internet"
ELSEWHERE: Final = {
    ("docs/sinks.md", "connector sinks"): "tests/integration/test_sinks.py",
    ("README.md", "scripts/demo"): ".ci/run, and whatever runs the tests",
    ("README.md", "scripts/deploy-5-peer-multihop.sh up"): _ON_THE_ENGINE,
    ("README.md", "docker exec peer1 ilp-connector balances"): _ON_THE_ENGINE,
    ("docs/deployment.md", "scripts/deploy-5-peer-multihop.sh up"): _ON_THE_ENGINE,
    ("docs/deployment.md", "curl -s -H"): _ON_THE_ENGINE,
    ("docs/deployment.md", "docker compose -f docker/docker-compose.mesh.yml"): _ON_THE_ENGINE,
    ("docs/deployment.md", "python -m connector compose --topology ring"): _ON_THE_ENGINE,
    ("docs/deployment.md", "make compose-tb-init"): _ON_THE_ENGINE,
    ("docs/deployment.md", "scrape_configs"): "a Prometheus; its form: tests/unit/test_docs.py",
    ("docs/deployment.md", "make compose-tb-recover"): _ON_THE_ENGINE,
    ("docs/deployment.md", "scripts/docker-keep-running.sh --once"): _ON_THE_ENGINE,
    ("docs/deployment.md", "scripts/backup-tigerbeetle.sh"): _ON_THE_ENGINE
    + "; `git pull` needs a newer version",
    ("docs/deployment.md", "scripts/docker-rebuild.sh peer3"): _ON_THE_ENGINE,
    ("docs/deployment.md", "scripts/production.sh init"): _ON_THE_ENGINE,
    ("docs/deployment.md", "export BACKUP_THEN="): "object storage; `--then`: tests/compose, on a Docker engine",
    ("docs/deployment.md", "mkdir -p backups/ilp"): "object storage; the restore: tests/compose, on a Docker engine",
    ("docs/deployment.md", "kubectl create secret"): "Kubernetes; what is rendered: tests/compose/test_helm.py",
    ("docs/deployment.md", "docker compose -f docker-compose-5-peer-multihop.yml --profile"):
        _ON_THE_ENGINE + ", with a stand-in for the image of Prometheus",
    ("docs/local-development.md", "cd ilp-connector"): _OF_SCRIPTS,
    ("docs/local-development.md", ".venv/bin/python -m connector status"): _OF_SCRIPTS,
    ("docs/local-development.md", 'eval "$(scripts/tigerbeetle start)"'): _OF_SCRIPTS,
    ("docs/simulation.md", "scripts/simulate"): ".ci/run; the options: tests/unit/simulation",
    ("docs/tigerbeetle.md", "scripts/tigerbeetle install"): _OF_SCRIPTS,
    ("docs/tigerbeetle.md", "scripts/tigerbeetle stop"): _OF_SCRIPTS,
    ("docs/tigerbeetle.md", "tigerbeetle format --cluster=42 --replica=0"):
        "three machines; on one: tests/integration/test_tigerbeetle_script.py",
    ("docs/tigerbeetle.md", "tigerbeetle recover --cluster=42"):
        "three machines; in containers: tests/compose",
    ("CONTRIBUTING.md", "scripts/test --quick"): "whatever runs the tests",
    ("CONTRIBUTING.md", ".venv/bin/pip install pre-commit"): "it changes the clone's own hooks",
    ("CONTRIBUTING.md", "python -m connector simulate --minutes 5"): ".ci/run, in two minutes",
    ("CONTRIBUTING.md", "scripts/bench"): "it takes an hour of a quiet machine",
    ("RELEASING.md", "scripts/release --dry-run"): "a release; refusals and parts of it: tests/unit/test_release.py, tests/integration/test_wheel.py",
}  # fmt: skip
