"""The shell scripts, as far as they can be run without a Docker engine."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.processes

ROOT: Final = Path(__file__).parents[2]
SCRIPTS: Final = ROOT / "scripts"
DOCKER_SCRIPTS: Final = sorted(path.name for path in SCRIPTS.glob("*.sh") if path.name[0] != "_")
BASH: Final = shutil.which("bash") or "/bin/bash"
# What the scripts may take for granted on any machine.
TOOLS: Final = [
    "awk",
    "basename",
    "bash",
    "cat",
    "chmod",
    "cut",
    "date",
    "df",
    "dirname",
    "du",
    "env",
    "grep",
    "head",
    "id",
    "mkdir",
    "mv",
    "od",
    "python3",
    "rm",
    "sed",
    "sh",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tr",
    "uname",
    "wc",
]


def run(
    command: list[str], path: Path | None = None, folder: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run without a terminal, and with no programs but those in `path`, if given."""
    environment = {"PATH": str(path) if path else os.environ["PATH"], "HOME": "/", **variables}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH with the usual tools and without Docker."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


def fake(folder: Path, name: str, script: str) -> None:
    """A program of that name in `folder`; it notes how it was called in `called`."""
    program = folder / name
    program.write_text(f'#!{BASH}\necho "$@" >>"{folder}/called"\n{script}\n')
    program.chmod(0o755)


def called(folder: Path) -> str:
    """The calls of all fake programs."""
    notes = folder / "called"
    return notes.read_text() if notes.exists() else ""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the scripts need, with a compose file of two services."""
    folder = tmp_path / "project"
    shutil.copytree(SCRIPTS, folder / "scripts")
    (folder / "docker").mkdir()
    text = (
        "services:\n"
        "  tigerbeetle:\n"
        "    environment:\n"
        '      TIGERBEETLE_REPLICA_ID: "0"\n'
        "      TIGERBEETLE_CLUSTER_ID: ${TIGERBEETLE_CLUSTER_ID:-0}\n"
        "  peer1:\n"
        "    environment:\n"
        "      ADMIN_API_KEY: ${ADMIN_API_KEY:?set it}\n"
        "      METRICS_KEY: ${METRICS_KEY:-}\n"
        "      LINK: ${LINK_SECRET_1_2:?set it}\n"
        "#     NOT: ${COMMENTED_OUT:?}\n"
    )
    (folder / "docker-compose-5-peer-multihop.yml").write_text(text)
    (folder / "docker/docker-compose.tigerbeetle-cluster.yml").write_text(text)
    return folder


def helpers(project: Path, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `program` with the helpers sourced."""
    text = f". {project}/scripts/_docker.sh\nset -euo pipefail\n{program}"
    return run([BASH, "-c", text, "try"], folder=project, **variables)


# --- every script


def test_there_are_scripts() -> None:
    assert "deploy-5-peer-multihop.sh" in DOCKER_SCRIPTS
    assert len(DOCKER_SCRIPTS) == 11


@pytest.mark.parametrize("name", DOCKER_SCRIPTS)
def test_help_says_how_and_which_exit_codes(name: str, bare: Path) -> None:
    """Also where there is no Docker."""
    for option in ("-h", "--help"):
        result = run([str(SCRIPTS / name), option], bare)
        assert result.returncode == 0, result.stderr
        assert f"scripts/{name}" in result.stdout
        assert "Exit codes: 0 " in result.stdout
        assert result.stderr == ""


@pytest.mark.parametrize("name", DOCKER_SCRIPTS)
def test_an_unknown_option_is_named(name: str, bare: Path) -> None:
    result = run([str(SCRIPTS / name), "--nonsense"], bare)
    assert result.returncode == 2
    assert "--nonsense" in result.stderr
    assert "--help" in result.stderr


@pytest.mark.parametrize("name", DOCKER_SCRIPTS)
def test_a_script_is_executable_and_stops_at_the_first_fault(name: str) -> None:
    path = SCRIPTS / name
    assert path.stat().st_mode & stat.S_IXUSR
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_nothing_that_the_bash_of_macos_lacks(path: Path) -> None:
    """Bash 3.2 has no associative arrays, no `mapfile`, no `${x,,}`, no `wait -n`."""
    newer = r"declare -[gA]|local -[gA]|\bmapfile\b|\breadarray\b|\$\{\w+(,|\^)|wait -n|\|&|&>>"
    assert re.findall(newer, path.read_text()) == []


# --- the environment that scripts run in


def venv(project: Path, bare: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Make .venv, with the helpers sourced."""
    text = f". {project}/scripts/_venv.sh\nset -euo pipefail\nvenv base"
    return run([BASH, "-c", text, "try"], bare, project, **variables)


def interpreter(folder: Path, name: str, version: str) -> str:
    """A program that says it is Python of that version, and cannot make environments."""
    is_new = tuple(map(int, version.split("."))) >= (3, 11)
    fake(
        folder,
        name,
        f"""case "$*" in
  '-c import sys; print'*) echo {version} ;;
  --version) echo 'Python {version}' ;;
  '-m venv'*) exit 1 ;;
  *) exit {int(not is_new)} ;;
esac""",
    )
    return str(folder / name)


def test_a_python_that_is_named_and_too_old_is_refused(project: Path, bare: Path) -> None:
    """Also where .venv is there already, and other interpreters are."""
    named = interpreter(bare, "old", "3.10.13")
    result = venv(project, bare, PYTHON=named)
    assert result.returncode == 1
    assert f"PYTHON={named} is Python 3.10.13: 3.11 or newer is needed" in result.stderr
    assert not (project / ".venv").exists()


def test_a_python_that_is_named_and_does_not_run_is_refused(project: Path, bare: Path) -> None:
    result = venv(project, bare, PYTHON="/no/such/python")
    assert result.returncode == 1
    assert "PYTHON=/no/such/python cannot be run" in result.stderr


def test_an_environment_of_another_version_than_the_named_one_is_made_again(
    project: Path, bare: Path
) -> None:
    for name in ("pyproject.toml", "hatch_build.py", "hatch_compile.py", "requirements"):
        (project / name).symlink_to(ROOT / name)
    (project / "connector").symlink_to(ROOT / "connector")
    (project / "explorer-ui").mkdir()
    for name in ("cksum", "find"):
        (bare / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    (project / ".venv/bin").mkdir(parents=True)
    interpreter(project / ".venv/bin", "python", "3.11.7")
    sources = (
        "requirements/*.txt pyproject.toml connector/version.py hatch_build.py hatch_compile.py"
    )
    stamp = f'echo "base $(cat {sources} | cksum) $PWD"'
    (project / ".venv/installed").write_text(run([BASH, "-c", stamp], bare, project).stdout)

    same = interpreter(bare, "same", "3.11.7")
    assert venv(project, bare, PYTHON=same).returncode == 0
    result = venv(project, bare, PYTHON=interpreter(bare, "other", "3.12.1"))
    assert "Making .venv with Python 3.12.1" in result.stderr
    assert "cannot make .venv with" in result.stderr


@pytest.mark.parametrize("has_index", [True, False])
def test_simulate_installs_only_what_compiles_or_runs_interpreted(
    project: Path, bare: Path, has_index: bool
) -> None:
    """It needs none of the tools of development, so what the demo has made will do."""
    python = bare / "python"
    (project / "scripts/_venv.sh").write_text(
        f"root={project} python={python}\nmkdir -p .venv\nusage() {{ :; }}\n"
        'venv() { echo "venv $1"; }\nsay() { echo "$*"; }\n'
    )
    fake(bare, "cc", "")
    fake(
        bare,
        "python",
        f"""case "$*" in
  '-c import mypyc'*) exit 1 ;;
  '-m pip'*) exit {int(not has_index)} ;;
  *simulate*) echo "simulate with ${{PYTHONPATH:-no path}}" ;;
esac""",
    )
    result = run([str(project / "scripts/simulate"), "--seed", "1"], bare, project)
    assert result.returncode == 0, result.stderr
    assert "venv base" in result.stdout
    assert ("hatch_compile.py package" in called(bare)) is has_index
    path = str(project / "build/compiled") if has_index else "no path"
    assert f"simulate with {path}" in result.stdout
    assert ("the core is interpreted" in result.stdout) is not has_index


# --- arguments


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("deploy-5-peer-multihop.sh", "a verb is needed"),
        ("deploy-5-peer-multihop.sh fly", "unknown verb fly"),
        ("deploy-5-peer-multihop.sh up --fast", "unknown argument --fast"),
        ("deploy-5-peer-multihop.sh down now", "takes no argument"),
        ("deploy-5-peer-multihop.sh clean all", "unknown argument all"),
        ("compose-tb.sh", "a verb is needed"),
        ("compose-tb.sh fly", "unknown verb fly"),
        ("compose-tb.sh up -y", "unknown argument -y"),
        ("docker-test-packet-flow.sh --count", "--count needs a value"),
        ("docker-test-packet-flow.sh --count 0", "not '0'"),
        ("docker-test-packet-flow.sh --count 1e3", "not '1e3'"),
        ("docker-test-packet-flow.sh --count 1000000000", "not '1000000000'"),
        ("docker-test-packet-flow.sh --window 5001", "5000 at most"),
        ("wait-for-healthy.sh --timeout soon", "not 'soon'"),
        ("docker-keep-running.sh --interval 0.5", "not '0.5'"),
        ("docker-keep-running.sh peer1", "unknown argument peer1"),
        ("backup-tigerbeetle.sh --keep 0", "not '0'"),
        ("backup-tigerbeetle.sh --verify", "--verify needs a value"),
        ("restore-tigerbeetle.sh --dir", "--dir needs a value"),
    ],
)
def test_wrong_usage_is_told_before_docker_is_asked(command: str, message: str, bare: Path) -> None:
    name, *arguments = command.split()
    result = run([str(SCRIPTS / name), *arguments], bare)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr


WORKING: Final = [
    "deploy-5-peer-multihop.sh up",
    "deploy-5-peer-multihop.sh status",
    "deploy-5-peer-multihop.sh test",
    "deploy-5-peer-multihop.sh down",
    "deploy-5-peer-multihop.sh clean",
    "compose-tb.sh init",
    "compose-tb.sh logs",
    "docker-network-status.sh",
    "docker-test-packet-flow.sh",
    "docker-rebuild.sh",
    "docker-keep-running.sh",
    "wait-for-healthy.sh",
    "backup-tigerbeetle.sh",
    "restore-tigerbeetle.sh",
]


@pytest.mark.parametrize("command", WORKING)
def test_without_docker_it_is_said_where_to_get_it(command: str, bare: Path) -> None:
    name, *arguments = command.split()
    result = run([str(SCRIPTS / name), *arguments], bare)
    assert result.returncode == 3
    assert "Docker is not installed" in result.stderr


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("Cannot connect to the Docker daemon at unix:///x.", "is it running?"),
        ("Got permission denied while trying to connect: permission denied", "group 'docker'"),
    ],
)
def test_an_engine_that_does_not_answer_is_told_from_one_that_must_not(
    says: str, message: str, bare: Path
) -> None:
    fake(bare, "docker", f'echo "{says}" >&2; exit 1')
    result = run([str(SCRIPTS / "docker-network-status.sh")], bare)
    assert result.returncode == 3
    assert message in result.stderr


def test_without_compose_it_is_said_where_to_get_it(bare: Path) -> None:
    fake(bare, "docker", '[ "$1" = version ] && echo 28.0')
    result = run([str(SCRIPTS / "docker-network-status.sh")], bare)
    assert result.returncode == 3
    assert "neither 'docker compose' nor 'docker-compose' is installed" in result.stderr


# An engine without containers, volumes or images, and a compose that reads what the test wrote.
ENGINE: Final = """case "$1 $2" in
  'version '*) echo 28.0 ;;
  'compose version') echo v2 ;;
  'compose -f') [ "$4" != config ] || cat "$3" ;;
  'info '*) echo 8000000000 ;;
  'volume inspect') exit 1 ;;
esac"""


def test_a_compose_file_that_is_not_there(bare: Path) -> None:
    fake(bare, "docker", ENGINE)
    result = run([str(SCRIPTS / "docker-network-status.sh"), "-f", "nowhere.yml"], bare)
    assert result.returncode == 3
    assert "nowhere.yml" in result.stderr


def test_without_env_the_variable_that_is_missing_is_named(bare: Path, project: Path) -> None:
    fake(bare, "docker", ENGINE)
    result = run([str(project / "scripts/docker-network-status.sh")], bare, project)
    assert result.returncode == 3
    assert "ADMIN_API_KEY is not set" in result.stderr


@pytest.mark.parametrize(
    "command", ["deploy-5-peer-multihop.sh clean", "compose-tb.sh down-volumes"]
)
def test_books_are_removed_only_when_that_is_confirmed(
    command: str, bare: Path, project: Path
) -> None:
    """Nobody can confirm where there is no terminal; -y does."""
    fake(bare, "docker", ENGINE)
    secrets = {"ADMIN_API_KEY": "a", "LINK_SECRET_1_2": "b"}
    name, *arguments = command.split()
    script = str(project / "scripts" / name)

    result = run([script, *arguments], bare, project, **secrets)
    assert result.returncode == 4
    assert "pass --yes" in result.stderr
    assert "down" not in called(bare)

    result = run([script, *arguments, "-y"], bare, project, **secrets)
    assert result.returncode == 0, result.stderr
    assert "down -v" in called(bare)


@pytest.mark.parametrize(("policy", "started"), [("unless-stopped", True), ("no", False)])
def test_what_was_killed_is_started_again_unless_its_policy_is_no(
    policy: str, started: bool, bare: Path, project: Path
) -> None:
    engine = ENGINE.replace(
        "esac", f"  'ps '*) echo c1 ;;\n  'inspect '*) echo /peer1 {policy} ;;\nesac"
    )
    fake(bare, "docker", engine)
    result = run([str(project / "scripts/docker-keep-running.sh"), "--once"], bare, project)
    assert result.returncode == 0, result.stderr
    assert "--filter status=exited --filter exited=137" in called(bare)
    assert ("start c1" in called(bare)) is started
    assert ("peer1 was killed: started again" in result.stderr) is started


def test_down_leaves_the_volumes_and_no_container_of_any_profile(bare: Path, project: Path) -> None:
    fake(bare, "docker", f'echo "profiles $COMPOSE_PROFILES" >>"{bare}/called"\n{ENGINE}')
    script = str(project / "scripts/deploy-5-peer-multihop.sh")
    result = run([script, "down"], bare, project, ADMIN_API_KEY="a", LINK_SECRET_1_2="b")
    assert result.returncode == 0, result.stderr
    assert "down\nprofiles *\n" in called(bare)
    assert "-v" not in called(bare)


def test_books_whose_env_is_lost_are_not_started_under_a_new_id(bare: Path, project: Path) -> None:
    fake(bare, "docker", ENGINE.replace("'volume inspect') exit 1", "'volume inspect') exit 0"))
    result = run([str(project / "scripts/deploy-5-peer-multihop.sh"), "up"], bare, project)
    assert result.returncode == 3
    assert "put that file back" in result.stderr
    assert not (project / ".env").exists()


def test_no_colours_where_there_is_no_terminal(bare: Path) -> None:
    result = run([str(SCRIPTS / "docker-network-status.sh"), "--nonsense"], bare, TERM="xterm")
    assert "\x1b" not in result.stderr


# --- .env


def make_env(project: Path) -> dict[str, str]:
    result = helpers(project, "file=$PWD/docker-compose-5-peer-multihop.yml; make_env")
    assert result.returncode == 0, result.stderr
    lines = (project / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_env_is_made_with_random_secrets_for_its_owner_alone(project: Path) -> None:
    values = make_env(project)
    secrets = {"ADMIN_API_KEY", "LINK_SECRET_1_2", "METRICS_KEY"}
    assert set(values) == {*secrets, "TIGERBEETLE_CLUSTER_ID"}
    assert all(re.fullmatch(r"[0-9a-f]{64}", values[name]) for name in secrets)
    assert len({values[name] for name in secrets}) == len(secrets)
    assert 0 < int(values["TIGERBEETLE_CLUSTER_ID"]) < 2**64
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600


def test_an_env_that_is_there_is_only_completed(project: Path) -> None:
    (project / ".env").write_text("ADMIN_API_KEY=mine\n")
    values = make_env(project)
    assert values["ADMIN_API_KEY"] == "mine"
    assert re.fullmatch(r"[0-9a-f]{64}", values["LINK_SECRET_1_2"])
    assert "TIGERBEETLE_CLUSTER_ID" not in values  # running books may be those of cluster 0
    before = (project / ".env").read_text()
    make_env(project)
    assert (project / ".env").read_text() == before


def test_a_last_line_without_its_newline_is_not_continued(project: Path) -> None:
    (project / ".env").write_text("# of mine\nADMIN_API_KEY=mine")
    assert make_env(project)["ADMIN_API_KEY"] == "mine"
    assert helpers(project, "add_to_env A=1; add_to_env B=2").returncode == 0
    assert (project / ".env").read_text().endswith("\nA=1\nB=2\n")


def test_an_env_with_secrets_of_the_example_is_refused(project: Path) -> None:
    text = "ADMIN_API_KEY=change-me-admin\nLINK_SECRET_1_2=mine\n"
    (project / ".env").write_text(text)
    result = helpers(project, "file=$PWD/docker-compose-5-peer-multihop.yml; make_env")
    assert result.returncode == 3
    assert "ADMIN_API_KEY has the value of the example" in result.stderr
    assert (project / ".env").read_text() == text


def test_the_real_file_demands_nothing_that_cannot_be_made_at_random() -> None:
    names = helpers(
        ROOT, "file=$PWD/docker-compose-5-peer-multihop.yml; required_variables"
    ).stdout.split()
    assert "ADMIN_API_KEY" in names
    assert [name for name in names if not re.search("SECRET|KEY$|TOKEN$|PASSWORD$", name)] == []


@pytest.mark.parametrize(
    ("folder", "name"), [("ilp", "ilp"), ("My.Node_1", "mynode_1"), ("_x-y", "x-y")]
)
def test_the_project_is_named_as_compose_does_it(folder: str, name: str, tmp_path: Path) -> None:
    result = helpers(ROOT, f"file={tmp_path}/{folder}/docker-compose.yml; project_name")
    assert result.stdout == name


# --- balances


def account(node: str, peer: str, debit: int, credit: int, held: int = 0) -> str:
    fields = ("account", node, peer, "USD/9", debit, credit, debit - credit, held, 0)
    return "\t".join(map(str, fields))


def print_links(*lines: str) -> subprocess.CompletedProcess[str]:
    return helpers(ROOT, 'print_links <<<"$LINES_"', LINES_="\n".join(lines))


def test_links_that_mirror() -> None:
    result = print_links(
        account("a", "sender", 500, 0), account("a", "b", 0, 500), account("b", "a", 500, 0)
    )
    assert result.returncode == 0
    assert result.stdout.count("mirrored") == 2
    assert "a owes 500" in result.stdout
    assert "b is owed 500" in result.stdout


def test_a_link_that_does_not_mirror_by_one_unit_of_a_large_number() -> None:
    """Awk computes in floating point: those two would be equal to it."""
    result = print_links(account("a", "b", 0, 2**60), account("b", "a", 2**60 + 1, 0))
    assert result.returncode == 1
    assert result.stdout.count("NOT MIRRORED") == 2


def test_a_difference_while_packets_are_in_flight_is_called_so() -> None:
    result = print_links(account("a", "b", 0, 500, held=10), account("b", "a", 510, 0))
    assert result.returncode == 1
    assert "NOT MIRRORED" not in result.stdout
    assert result.stdout.count("in flight") == 2


# --- backups


def test_only_whole_backups_count_oldest_first(tmp_path: Path) -> None:
    for name in ("20260103T000000Z", "20260101T000000Z", "20260102T000000Z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "MANIFEST").write_text("made x\ncluster 7\n")
    (tmp_path / "20260104T000000Z").mkdir()
    (tmp_path / ".making-20260105T000000Z").mkdir()
    result = helpers(ROOT, f"backups {tmp_path}; manifest {tmp_path}/20260101T000000Z cluster")
    assert result.stdout.split() == [
        "20260101T000000Z",
        "20260102T000000Z",
        "20260103T000000Z",
        "7",
    ]


def test_no_backups_at_all(tmp_path: Path, bare: Path, project: Path) -> None:
    fake(bare, "docker", ENGINE)
    secrets = {"ADMIN_API_KEY": "a", "LINK_SECRET_1_2": "b"}
    script = str(project / "scripts/restore-tigerbeetle.sh")
    result = run([script, "-d", str(tmp_path / "none")], bare, project, **secrets)
    assert result.returncode == 3
    assert "there are no backups" in result.stderr


@pytest.mark.parametrize(
    ("unmatched", "whole", "accepted"),
    [(0, 1, False), (1, 1, True), (8, 1, True), (9, 1, False), (1, 0, False)],
)
def test_a_copy_may_lack_the_last_headers_of_its_log_and_nothing_else(
    unmatched: int, whole: int, accepted: bool, bare: Path, tmp_path: Path
) -> None:
    """As it is when the server was stopped while it wrote."""
    fake(
        bare,
        "tigerbeetle",
        f"""case "$*" in
  'inspect wal '*) for slot in $(seq {unmatched}); do echo "|__$slot: a"; echo "_|_$slot: b"; done ;;
  'inspect integrity --skip-wal '*) exit $((1 - {whole})) ;;
  'inspect integrity '*) echo 'panic: reached unreachable code'; exit 1 ;;
esac""",
    )
    (bare / "seq").symlink_to(shutil.which("seq") or "/usr/bin/seq")
    inspect = helpers(ROOT, 'printf %s "$INSPECT"').stdout.replace("/tigerbeetle", "tigerbeetle")
    result = run(["sh", "-euc", f"{inspect}\ninspect {tmp_path}/copy"], bare)
    assert (result.returncode == 0) is accepted, result.stderr


# --- make


def test_every_verb_of_the_cluster_is_a_make_verb() -> None:
    makefile = (ROOT / "Makefile").read_text()
    verbs = re.search(r"^  (init.*)\) ;;$", (SCRIPTS / "compose-tb.sh").read_text(), re.MULTILINE)
    assert verbs is not None
    for verb in verbs[1].split(" | "):
        assert f'@echo "make compose-tb-{verb} ' in makefile
        assert re.search(rf"^compose-tb-.*\bcompose-tb-{verb}[ :]|^compose-tb-{verb}[ :]", makefile,
                         re.MULTILINE), verb  # fmt: skip


# --- scripts/production.sh, as far as it needs no engine


@pytest.fixture
def production(tmp_path: Path) -> Path:
    """The production file in a folder of its own."""
    (tmp_path / "deploy").mkdir()
    file = tmp_path / "deploy" / "production.yml"
    shutil.copy(ROOT / "docker" / "docker-compose.production.yml", file)
    return file


def variables_of(file: Path) -> dict[str, str]:
    lines = (file.parent / ".env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_production_begins_with_random_keys_in_files(production: Path) -> None:
    script = str(SCRIPTS / "production.sh")
    done = run([script, "init", "--node-id", "hub", "--address", "g.hub"], FILE=str(production))
    assert done.returncode == 0, done.stderr
    given = variables_of(production)
    assert (given["NODE_ID"], given["ILP_ADDRESS"]) == ("hub", "g.hub")
    assert int(given["TIGERBEETLE_CLUSTER_ID"]) > 0
    secrets = production.parent / "secrets"
    keys = [
        (secrets / "connector" / Path(given[f"{name}_FILE"]).name).read_text()
        for name in ("ADMIN_API_KEY", "READ_API_KEY", "METRICS_KEY")
    ]
    assert len({*keys}) == 3
    assert all(re.fullmatch(r"[0-9a-f]{64}\n", key) for key in keys)
    assert not any(key.strip() in (production.parent / ".env").read_text() for key in keys)
    assert (secrets / "prometheus" / "metrics-key").read_text() == keys[2]
    # Private on the host by the folder; readable for the user of the container that it is mounted into.
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert stat.S_IMODE((production.parent / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((secrets / "connector" / "admin-api-key").stat().st_mode) == 0o444
    # Again: nothing changes.
    assert run([script, "init"], FILE=str(production)).returncode == 0
    assert variables_of(production) == given
    assert (secrets / "connector" / "admin-api-key").read_text() == keys[0]


def test_a_peer_of_production_has_a_secret_in_a_file(production: Path, tmp_path: Path) -> None:
    script = str(SCRIPTS / "production.sh")
    made = run([script, "peer", "alice-2"], FILE=str(production))
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"[0-9a-f]{64}\n", Path(made.stdout.strip()).read_text())
    assert variables_of(production)["BTP_PEER_ALICE_2_SECRET_FILE"] == "/run/secrets/peer-alice-2"
    given = tmp_path / "given"
    given.write_text("what-bob-has-given\n")
    taken = run([script, "peer", "bob"], FILE=str(production), FROM=str(given))
    assert Path(taken.stdout.strip()).read_text() == "what-bob-has-given\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["init"], 2, "--node-id is needed"),
        (["init", "--node-id", "hub"], 2, "--address is needed"),
        (["peer"], 2, "an id is needed"),
        (["peer", "a b"], 2, "letters, digits"),
        (["rotate", "peer-alice"], 2, "peers rotate-secret"),
        (["rotate", "other"], 2, "is none of"),
        (["rotate", "admin-api-key"], 3, "init makes it"),
    ],
)
def test_what_production_cannot_do_is_said(
    production: Path, arguments: list[str], code: int, said: str
) -> None:
    refused = run([str(SCRIPTS / "production.sh"), *arguments], FILE=str(production))
    assert refused.returncode == code
    assert said in refused.stderr
