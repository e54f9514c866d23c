"""The commands and programs of README and docs, run as they stand; the rest: tests/support/written.py.

They name fixed ports, and so run in a network of their own, where these are free.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS
from tests.support.tigerbeetle_server import MISSING, binary
from tests.support.written import block

_LOOPBACK_UP: Final = (
    "import fcntl, socket, struct; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    "fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'lo', 0x41))"  # SIOCSIFFLAGS: up, running
)
# What a script leaves running ends with its first process; `demo` gives its nodes groups of their own.
_ENDS_WITH_IT: Final = ["--pid", "--fork", "--kill-child", "--mount-proc"]
_APART: Final = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "--net", *_ENDS_WITH_IT]
# What every script here begins with.
_HEAD: Final = f"""
set -euo pipefail
python -c "{_LOOPBACK_UP}"
answers() {{  # as `connector healthcheck` asks it, without the start of an interpreter
  exec 3<>"/dev/tcp/127.0.0.1/${{HTTP_PORT:-8080}}"
  printf 'GET /health/ready HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
  grep -q '^HTTP/1.. 200 ' <&3
}}
ready() {{  # until a node answers, or the file that is named has what is named
  for _ in $(seq {int(PATIENCE_SECONDS * 10)}); do
    if [ $# = 2 ]; then ! grep -q "$2" "$1" 2>/dev/null || return 0
    else ! answers 2>/dev/null || return 0; fi
    sleep 0.1
  done
  cat ./*.log; exit 1
}}
"""


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """A PATH with what `pip install .` makes."""
    if subprocess.run([*_APART, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user can have no network of its own (unshare --net)")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, words in {
        "python": "", "python3": "", "connector": "-m connector", "ilp-connector": "-m connector",
    }.items():  # fmt: skip
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def run(
    script: str, folder: Path, path: str, env: Mapping[str, str] | None = None, patience: int = 3
) -> str:
    """Run a script of bash to its end, and then all that it has left running; its output.

    It has to end with 0, and nothing in it with a traceback. `patience`: how many times as long as one event
    may take.
    """
    work = folder / "work"
    work.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*_APART, "bash", "-c", _HEAD + script],
        cwd=work, env={**INHERITED, "PATH": path, "COLUMNS": "80", **(env or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said, _ = process.communicate(timeout=patience * PATIENCE_SECONDS)
    finally:
        # What runs in the background went with it; a script that was too slow goes now.
        process.kill()
        process.wait()
    logs = "".join(log.read_text() for log in sorted(work.glob("*.log")))
    assert process.returncode == 0, said + logs
    assert "Traceback" not in said + logs, said + logs
    return said


def in_background(script: str, log: str = "node.log") -> str:
    return f"(\n{script}\n) >{log} 2>&1 &\n"


@pytest.mark.slow
def test_the_node_of_the_readme_and_what_looks_into_its_ledger(
    tmp_path: Path, programs: str
) -> None:
    node = block("README.md", "mkdir -p hub-secrets").script
    look = block("docs/accounting.md", "sqlite3 -readonly").script
    if shutil.which("sqlite3") is None:
        # The same file by the library, in the place of a program that is not on this machine.
        look = re.sub(r"^sqlite3 -readonly (\S+) ('.*')$", r"test -r \1", look, flags=re.MULTILINE)
    *settings, last = node.rstrip().splitlines()
    assert last.startswith("python -m connector ")
    said = run(
        "\n".join(settings) + "\n" + in_background(last) + "ready\n" + look
        + "kill -TERM $!\nwait $! || true\n",
        tmp_path, programs,
    )  # fmt: skip
    assert "BTP_PEER_ALICE_CREDIT_LIMIT" in said
    assert "ok" in said


@pytest.mark.parametrize(
    ("page", "first"), [("README.md", "nodeId: hub"), ("docs/configuration.md", "nodeId: alice")]
)
def test_a_node_runs_with_the_file_that_is_shown(
    tmp_path: Path, programs: str, page: str, first: str
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "hub.yaml").write_text(block(page, first).text)
    said = run(
        "export CONFIG_FILE=hub.yaml\npython -m connector check-config\n"
        + in_background("python -m connector run") + "ready\npython -m connector peers\n",
        tmp_path, programs,
    )  # fmt: skip
    assert "bob" in said


def test_the_program_of_the_readme(tmp_path: Path, programs: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "pay.py").write_text(block("README.md", "import asyncio").text)
    said = run("python pay.py", tmp_path, programs)
    assert re.search(r"^Reject\(.*T01", said, re.MULTILINE), said


@pytest.mark.slow
def test_more_through_the_demo_that_is_kept(tmp_path: Path, programs: str) -> None:
    """As README says it, and as the demo itself does; ports and token are what the demo prints."""
    shown = block("README.md", "python -m connector send --url ws://127.0.0.1:BTP_PORT").script
    said = run(
        in_background("python -m connector demo --keep --packets 10 --data-dir line", "demo.log")
        + "ready demo.log 'connector send'\nmore=$(grep 'connector send' demo.log)\neval \"$more\"\n"
        "BTP=$(sed -n 's|.* peer1 .*ws://127.0.0.1:\\([0-9]*\\).*|\\1|p' demo.log)\n"
        "HTTP=$(sed -n 's|.* peer1 .*page http://127.0.0.1:\\([0-9]*\\)/.*|\\1|p' demo.log)\n"
        "TOKEN=$(sed 's/.*--auth sender:\\([^ ]*\\).*/\\1/' <<<\"$more\")\n"
        + shown.replace("HTTP_PORT", "$HTTP").replace("BTP_PORT", "$BTP").replace("TOKEN", "$TOKEN"),
        tmp_path, programs,
    )  # fmt: skip
    assert "1,000 of 1,000" in said or "1000 of 1000" in said or "fulfilled" in said
    assert "peer2" in said


def test_a_wallet_of_the_demo_that_is_kept_is_paid(tmp_path: Path, programs: str) -> None:
    """As the demo prints it, and as the README shows it."""
    shown = block("README.md", "python -m connector pay").script
    for name, variable in (("HTTP_PORT_OF_PEER5", "HTTP5"), ("PAY_PORT", "PAY"),
                           ("HTTP_PORT", "HTTP"), ("KEY", "KEY")):  # fmt: skip
        shown = shown.replace(name, f"${variable}")
    said = run(
        in_background("python -m connector demo --keep --packets 10 --data-dir line", "demo.log")
        + "ready demo.log 'connector pay'\nmore=$(grep 'connector pay' demo.log)\neval \"$more\"\n"
        "PAY=$(sed 's|.*:\\([0-9]*\\)/pay/.*|\\1|' <<<\"$more\")\n"
        "KEY=$(sed 's/.*--key \\([^ ]*\\).*/\\1/' <<<\"$more\")\n"
        "HTTP=$(sed -n 's|.* peer1 .*page http://127.0.0.1:\\([0-9]*\\)/.*|\\1|p' demo.log)\n"
        "HTTP5=$(sed -n 's|.* peer5 .*page http://127.0.0.1:\\([0-9]*\\)/.*|\\1|p' demo.log)\n"
        + shown,
        tmp_path, programs,
    )  # fmt: skip
    assert said.count("sent 5 of 5 USD/9, delivered 5 USD/9") == 2, said
    assert "peer5" in said


NODE: Final = {
    "NODE_ID": "hub",
    "DATA_DIR": "data",
    "ADMIN_API_KEY": "key-of-an-operator",
    "BTP_PEER_BOB_SECRET": "long-and-random-of-bob",
    "BTP_PEER_BOB_CREDIT_LIMIT": "5000",
}


def test_a_peer_is_added_over_the_admin_api(tmp_path: Path, programs: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    said = run(
        in_background("python -m connector run")
        + "ready\n"
        + block("docs/admin-api.md", "curl -H").script
        + "\npython -m connector routes\n",
        tmp_path,
        programs,
        {name: value for name, value in NODE.items() if "BOB" not in name},
    )
    assert '"id":"dave"' in said.replace(" ", ""), said
    assert "g.dave" in said


# What has to be there before a command of docs/settlement.md makes sense.
_WE_OWE: Final = "connector settle bob --incoming 5000 --yes\n"
_BOB_OWES: Final = "connector settle bob --outgoing 5000 --yes\n"
_BEFORE: Final = {
    "--confirm": _WE_OWE + "connector settle bob --pay\n",
    "--cancel": _WE_OWE + "connector settle bob --pay\n",
    "--incoming": _BOB_OWES,
    "--outgoing": _WE_OWE,
    "--pay": _WE_OWE,
    "--accept": "engine 1\n",
    "--decline": "engine 2\n",
}
_ENGINE: Final = """
engine() {  # reports more than bob owes and may have paid in advance
  python -c 'import sys, urllib.request as u
u.urlopen(u.Request("http://127.0.0.1:8080/settlement/accounts/bob/settlements",
    b"{\\"amount\\": \\"900000\\", \\"scale\\": 9}",
    {"Content-Type": "application/json", "Idempotency-Key": sys.argv[1]}))' "$1"
}
"""


@pytest.mark.slow
def test_every_way_to_settle_by_hand(tmp_path: Path, programs: str) -> None:
    script = block("docs/settlement.md", "export ADMIN_API_KEY").script
    _key, *commands = script.rstrip().splitlines()
    lines = []
    for command in commands:
        option = re.search(r"--[a-z]+", re.sub(r"#.*", "", command))
        lines += [_BEFORE[option[0]] if option else "", "echo '+' && ", command, "\n"]
        # What it began is ended, so that the next one begins with nothing under way.
        if option and option[0] == "--pay":
            lines.append("connector settle bob --cancel\n")
    said = run(
        in_background("python -m connector run") + "ready\n" + _ENGINE + "".join(lines),
        tmp_path, programs, NODE,
    )  # fmt: skip
    for phase in ("completed", "cancelled", "declined"):
        assert phase in said, said


def test_settings_that_are_shown_are_taken(tmp_path: Path, programs: str) -> None:
    pay = block("docs/settlement.md", "export BTP_PEER_BOB_SETTLE_THRESHOLD").script
    proxy = block("docs/deployment.md", "export TRUSTED_PROXIES").script
    look = "python -m connector check-config\n"
    said = run(f"(\n{pay}{look})\n(\n{proxy}{look})\n", tmp_path, programs, NODE)
    for name in ("BTP_PEER_BOB_SETTLE_THRESHOLD", "SETTLEMENT_ENGINE_URL", "TRUSTED_PROXIES"):
        assert name in said


def test_the_program_that_looks_into_a_simulation(tmp_path: Path, programs: str) -> None:
    (tmp_path / "work").mkdir()
    shown = block("docs/simulation.md", "from connector.simulation.draw").text
    (tmp_path / "work" / "look.py").write_text(shown + "print(outcome)\n")
    run("python look.py", tmp_path, programs)


@pytest.mark.slow
@pytest.mark.tigerbeetle
def test_a_replica_by_hand_and_the_node_on_it(tmp_path: Path, programs: str) -> None:
    server = binary()
    if server is None:
        pytest.skip(MISSING)
    (tmp_path / "bin" / "tigerbeetle").symlink_to(server)
    # A folder that this user may write; as many connections and as little memory as tests need.
    replica = (
        block("docs/tigerbeetle.md", "mkdir -p /var/lib/tigerbeetle")
        .script.replace("/var/lib/tigerbeetle", str(tmp_path / "lib"))
        .replace("tigerbeetle start", "tigerbeetle start --development")
        .replace("tigerbeetle format", "tigerbeetle format --development")
    )
    *settings, start = (
        block("docs/tigerbeetle.md", "export TIGERBEETLE_CLUSTER_ID=42").script.rstrip().split("\n")
    )
    audit = block("docs/tigerbeetle.md", "python -m connector audit --nodes alice,bob").script
    said = run(
        in_background(replica, "server.log") + "ready server.log 'listening on'\n"
        + "\n".join(settings) + "\n"
        + "export NODE_ID=bob BTP_PEER_ALICE_SECRET=long-and-random-of-both\n"
        + in_background(f"BTP_SERVER_PORT=3100 HTTP_PORT=8081 DATA_DIR=bob {start}", "bob.log")
        + "export NODE_ID=alice BTP_PEER_BOB_SECRET=long-and-random-of-both\n"
        + "unset BTP_PEER_ALICE_SECRET; export DATA_DIR=alice BTP_PEER_BOB_URL=ws://127.0.0.1:3100\n"
        + in_background(start, "alice.log")
        + "HTTP_PORT=8081 ready; ready\n" + audit,
        tmp_path, programs,
    )  # fmt: skip
    assert "FAIL" not in said


def test_two_nodes_linked_over_http(tmp_path: Path, programs: str) -> None:
    """The block waits for its nodes, pays and ends them by itself."""
    said = run(
        "set -m\n" + block("docs/ilp-over-http.md", "export SECRET=").script, tmp_path, programs
    )
    assert "10 of 10 fulfilled" in said
    assert re.search(r"alice .*owes us.*\n.* 10000 ", said), said


def test_two_new_nodes_on_one_machine(tmp_path: Path, programs: str) -> None:
    """The block waits for its nodes and the link, and ends them by itself."""
    shown = block("docs/operating.md", "connector init alice-node").script
    said = run("set -m\n" + shown, tmp_path, programs)
    assert "4 of 4 fulfilled" in said, said
    assert "alice is set up. Next:" in said


def test_a_new_secret_for_a_peer(tmp_path: Path, programs: str) -> None:
    said = run(
        in_background("python -m connector run") + "ready\n"
        + block("docs/operating.md", "umask 077").script
        + "cat bob-new-secret.txt\n",
        tmp_path, programs, NODE,
    )  # fmt: skip
    assert "secret rotation" in said
    assert "the secret to give to bob, shown only now: " in said
    assert "the former secret of bob serves no more" in said


def test_a_name_for_a_node(tmp_path: Path, programs: str) -> None:
    shown = block("docs/operating.md", "connector nodes add").script
    said = run(
        in_background("python -m connector run") + "ready\n"
        + "export XDG_CONFIG_HOME=$PWD/config\n(umask 077; echo $ADMIN_API_KEY > hub-admin.key)\n"
        + shown.replace("https://hub.example", "http://127.0.0.1:8080").replace("~/", ""),
        tmp_path, programs, NODE,
    )  # fmt: skip
    assert re.search(r"ilpAddress .*test\.hub", said), said
    assert "node hub is http://127.0.0.1:8080" in said
    # A table, or one line below the other where a path is too long for it.
    assert re.search(r"(│ hub +│|node: hub\s+url:) http://127\.0\.0\.1:8080", said), said


def test_the_log_of_a_node(tmp_path: Path, programs: str) -> None:
    said = run(
        in_background("python -m connector run") + "ready\n"
        + "connector limits bob --credit-limit 9000 --yes\n"
        + block("docs/operating.md", "connector log --since").script + "cat log.csv\n"
        + block("docs/operating.md", "connector audit --url").script,
        tmp_path, programs, NODE,
    )  # fmt: skip
    assert said.count("peer.limits bob (creditLimit: 0.000005 USD -> 0.000009 USD)") == 3, said
    assert "audit: ok" in said


def test_a_parent_a_child_and_a_peer_without_static_routes(tmp_path: Path, programs: str) -> None:
    """The block waits for its nodes and the way, pays and ends them by itself."""
    said = run("set -m\n" + block("docs/routing.md", "export HUB=").script, tmp_path, programs)
    assert "10 of 10 fulfilled" in said
    assert re.search(r"g\.carol .* carol .* ccp ", said), said
    assert re.search(r"g\.hub .*\(this node\).* local .* carol ", said), said
    assert re.search(r"g\.hub\.kid .* kid .* child ", said), said
    assert re.search(r"\(default\) .* hub .* parent ", said), said


def typed(page: str, first: str) -> str:
    """The commands of a block that has their output, too."""
    text = block(page, first).text
    return "".join(line[2:] + "\n" for line in text.splitlines() if line.startswith("$ "))


def test_ways_to_an_address_and_what_is_there(tmp_path: Path, programs: str) -> None:
    hub = {
        "NODE_ID": "hub", "ILP_ADDRESS": "g.hub", "ADMIN_API_KEY": "key-of-an-operator", "TOKEN": "of-alice",
        "BTP_PEER_ALICE_SECRET": "of-alice", "BTP_PEER_BOB_SECRET": "of-both", "BTP_PEER_BOB_ROUTES": "g.bob",
    }  # fmt: skip
    said = run(
        "(\nexport NODE_ID=bob ILP_ADDRESS=g.bob BTP_SERVER_PORT=3100 HTTP_PORT=8081 DATA_DIR=bob\n"
        "unset BTP_PEER_BOB_SECRET BTP_PEER_BOB_ROUTES BTP_PEER_ALICE_SECRET\n"
        "export BTP_PEER_HUB_SECRET=of-both BTP_PEER_HUB_URL=ws://127.0.0.1:3000\n"
        "exec python -m connector run\n) >bob.log 2>&1 &\n"
        + in_background("python -m connector run", "hub.log")
        + "ready; HTTP_PORT=8081 ready; ready bob.log btp_connection_established\n"
        + "".join(block("docs/tools.md", f"connector {name}").script
                  for name in ("explain", "ping", "trace")),
        tmp_path, programs, hub,
    )  # fmt: skip
    assert said.count("4 of 4 fulfilled") == 2, said
    assert "sent to the next hop" in said
    assert "g.bob.shop has answered" in said


def test_wallets_and_how_they_are_paid(tmp_path: Path, programs: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    (tmp_path / "work").mkdir()
    # In a program, of which the page shows what is of interest.
    part = block("docs/payments.md", "result = await node.pay").text
    assert "$pay.example.com/pay/alice" in part
    part = part.replace("$pay.example.com/pay/alice", "http://127.0.0.1:3100/pay/alice")
    program = (
        "import asyncio\nfrom connector import Connector, Settings\n"
        "settings = Settings(pay_port=3100, wallets=['alice'], btp_server_port=0, http_port=0, data_dir='other')\n"
        "async def main():\n    async with Connector(settings) as node:\n"
        f"{textwrap.indent(part, ' ' * 8)}        print('paid', result.delivered)\n"
        "asyncio.run(main())\n"
    )
    (tmp_path / "work" / "pay.py").write_text(program)
    said = run(
        in_background(typed("docs/payments.md", "PAY_PORT=3100")) + "ready\n"
        + typed("docs/payments.md", "curl -s -H") + "echo\n"
        + typed("docs/payments.md", "python -m connector pay")
        + "connector wallets\nkill %1; wait %1 || true; python pay.py\n",
        tmp_path, programs,
    )  # fmt: skip
    shown = block("docs/payments.md", "curl -s -H").text
    assert re.search(r'"destination_account": ?"test\.connector\.', said), said
    assert '"destination_account":"test.connector.' in shown
    assert "sent 1000000 of 1000000 USD/9, delivered 1000000 USD/9" in said
    assert "paid 1000000" in said


@pytest.mark.slow
def test_a_peer_is_checked_from_outside(tmp_path: Path, programs: str) -> None:
    node = {
        "NODE_ID": "hub", "ILP_ADDRESS": "g.hub", "TOKEN": "of-alice", "OTHER": "of-bob",
        "BTP_PEER_ALICE_SECRET": "of-alice",
        "BTP_PEER_BOB_SECRET": "of-bob", "BTP_PEER_BOB_RELATION": "child",
    }  # fmt: skip
    said = run(
        in_background("python -m connector run") + "ready\n"
        + block("docs/conformance.md", "connector conformance --url").script
        + block("docs/conformance.md", "connector conformance --next-auth").script,
        tmp_path, programs, node,
    )  # fmt: skip
    assert len(re.findall(r"^\d+ pass, 0 fail", said, re.MULTILINE)) == 2, said


def test_a_standby_takes_over(tmp_path: Path, programs: str) -> None:
    first, second = typed("docs/deployment.md", "python -m connector run").splitlines()
    said = run(
        in_background(f"exec {first}", "first.log") + "active=$!\nready\n"
        + in_background(f"exec {second}", "second.log")
        + "ready second.log 'is active on'\nkill -TERM $active\nwait $active\n"
        + "ready second.log connector_started\ncat second.log\n",
        tmp_path, programs, {**NODE, "LOG_FORMAT": "json"},
    )  # fmt: skip
    assert '"standby_ended"' in said
