"""The compose files on a real Docker engine.

Each stack is apart from all else on the engine (`Stack`), and gone afterwards. Images are built once;
ILP_TEST_CONNECTOR_IMAGE names one that is built already.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from connector.tools.compose import Plan, Topology, compose_file, default_names
from tests.support.acceptance import written
from tests.support.compose import (
    BASE_IMAGE,
    ROOT,
    SERVER_IMAGE,
    Stack,
    docker,
    example,
    missing,
)

pytestmark = [pytest.mark.compose, pytest.mark.slow]

PEERS = [f"peer{number}" for number in range(1, 6)]
# Half of that is promised for a machine with nothing else to do.
UP_SECONDS_MAX = 120
SERVER = ROOT / "docker" / "tigerbeetle"

Start = Callable[..., Stack]


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Both images, by the variables that name them."""
    lack = missing()
    if lack:
        pytest.skip(lack)
    connector = os.environ.get("ILP_TEST_CONNECTOR_IMAGE")
    if not connector:
        connector = "ilp-connector:test"
        docker(
            "build", "-q", "--build-arg", "CONNECTOR_UI=skip", "--build-arg",
            f"BASE_IMAGE={BASE_IMAGE}", "-t", connector, str(ROOT),
        )  # fmt: skip
    server = "ilp-connector-tigerbeetle:test"
    docker(
        "build", "-q", "--build-arg", f"TIGERBEETLE_IMAGE={SERVER_IMAGE}", "-t", server, str(SERVER)
    )
    return {"CONNECTOR_IMAGE": connector, "TIGERBEETLE_SERVER_IMAGE": server}


@pytest.fixture(scope="module")
def start(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Makes stacks, and removes them."""
    folder = tmp_path_factory.mktemp("compose")
    made: list[Stack] = []

    def make(path: Path, **values: str) -> Stack:
        stack = Stack(path, folder, images=images, values=values)
        for service in stack.content["services"].values():
            # Files that the generator made name the images themselves.
            variable = (
                "TIGERBEETLE_SERVER_IMAGE"
                if "tigerbeetle" in service["image"]
                else "CONNECTOR_IMAGE"
            )
            if service["image"].startswith("ilp-connector"):
                service["image"] = images[variable]
        stack.write()
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.remove()


# --- images


def test_the_image_is_small_and_not_roots(images: dict[str, str]) -> None:
    (found,) = json.loads(docker("image", "inspect", images["CONNECTOR_IMAGE"]))
    assert found["Size"] < 200_000_000
    assert found["Config"]["User"] == "1000:1000"
    assert set(found["Config"]["ExposedPorts"]) == {"3000/tcp", "8080/tcp"}
    assert found["Config"]["Healthcheck"]["Test"] == ["CMD", "ilp-connector", "healthcheck"]


def test_it_runs_the_commands_with_a_read_only_root(images: dict[str, str]) -> None:
    run = ["run", "--rm", "--read-only", "--cap-drop", "ALL", images["CONNECTOR_IMAGE"]]
    assert docker(*run, "--version")
    assert "BTP_SERVER_HOST" in docker(*run, "check-config")
    ring = docker(*run, "compose", "--topology", "ring", "--nodes", "10")
    assert "image: ilp-connector:local" in ring


def serve(image: str, *options: str, command: str = "start") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "run", "--rm", *options, image, command],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"TIGERBEETLE_CLUSTER_ID": "8"}, 3, "this is cluster 8"),
        ({"TIGERBEETLE_CLUSTER_ID": "x"}, 2, "not a decimal number"),
        ({"TIGERBEETLE_REPLICA_ID": "1"}, 2, "must be below"),
        ({"TIGERBEETLE_REPLICA_COUNT": "3"}, 2, "must name all 3 replicas"),
        (
            {"TIGERBEETLE_REPLICA_COUNT": "3", "TIGERBEETLE_ADDRESSES": "1.1.1.1:1,1.1.1.2:1,tb:1"},
            2, "give each replica a fixed ipv4_address",
        ),
        (
            {"TIGERBEETLE_REPLICA_COUNT": "3", "TIGERBEETLE_ADDRESSES": "1.1.1.1:1,1.1.1.2:1,1.1.1.3:1"},
            3, "formatted for 1 replicas",
        ),
    ],
)  # fmt: skip
def test_the_server_refuses_in_one_clear_line(
    formatted: str, images: dict[str, str], environment: dict[str, str], code: int, said: str
) -> None:
    options = [
        word
        for item in {"TIGERBEETLE_CLUSTER_ID": "7", **environment}.items()
        for word in ("-e", "=".join(item))
    ]
    options += ["--security-opt", f"seccomp={SERVER / 'seccomp.json'}", "-v", f"{formatted}:/data"]
    done = serve(images["TIGERBEETLE_SERVER_IMAGE"], *options)
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert said in line


@pytest.fixture(scope="module")
def formatted(images: dict[str, str]) -> Iterator[str]:
    """A volume with the data file of cluster 7."""
    volume = docker("volume", "create")
    done = serve(
        images["TIGERBEETLE_SERVER_IMAGE"], "-e", "TIGERBEETLE_CLUSTER_ID=7", "-v",
        f"{volume}:/data", "--security-opt", f"seccomp={SERVER / 'seccomp.json'}", command="format",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield volume
    docker("volume", "rm", volume)


def test_where_io_uring_is_denied_both_say_so(
    formatted: str, images: dict[str, str], tmp_path: Path
) -> None:
    profile = json.loads((SERVER / "seccomp.json").read_text("utf-8"))
    profile["syscalls"] = profile["syscalls"][1:]
    denying = tmp_path / "as-docker-25.json"
    denying.write_text(json.dumps(profile))
    options = ["--security-opt", f"seccomp={denying}"]
    server = serve(
        images["TIGERBEETLE_SERVER_IMAGE"], *options, "-e", "TIGERBEETLE_CLUSTER_ID=7",
        "-v", f"{formatted}:/data",
    )  # fmt: skip
    assert server.returncode == 1
    (line,) = server.stderr.strip().splitlines()
    assert "io_uring is denied" in line
    assert "security_opt" in line
    connector = serve(
        images["CONNECTOR_IMAGE"], *options, "-e", "TIGERBEETLE_CLUSTER_ID=7",
        "-e", "TIGERBEETLE_REPLICAS=127.0.0.1:3000", command="run",
    )  # fmt: skip
    assert connector.returncode == 2, connector.stderr
    (line,) = [line for line in connector.stderr.splitlines() if not line.startswith("{")]
    assert "io_uring is denied" in line
    assert "security_opt" in line


# --- five peers


@pytest.fixture(scope="module")
def five(start: Start) -> Stack:
    """The five peers, up; tests leave them so."""
    stack = start(ROOT / "docker-compose-5-peer-multihop.yml")
    stack.check_often()
    began = time.monotonic()
    written(stack, "scripts/deploy-5-peer-multihop.sh up", "--no-build")
    assert time.monotonic() - began < UP_SECONDS_MAX
    return stack


def test_tigerbeetle_is_there_first(five: Stack) -> None:
    server, *peers = [five.inspect(name)["State"]["StartedAt"] for name in ("tigerbeetle", *PEERS)]
    assert server < min(peers)


def test_packets_travel_the_whole_line_and_the_books_mirror_each_other(five: Stack) -> None:
    before = {name: five.balances(name) for name in PEERS}
    assert "All checks passed" in written(five, "scripts/deploy-5-peer-multihop.sh test")
    for one, other in pairwise(PEERS):
        debit, credit = five.balances(other)[one]
        assert (debit - before[other][one][0], credit - before[other][one][1]) == (100_000, 0)
    five.assert_mirrored()
    five.assert_no_errors()


def test_down_and_up_keeps_the_books(five: Stack) -> None:
    five.send("peer1", "g.peer5", 5)
    before = {name: five.balances(name) for name in PEERS}
    written(five, "scripts/deploy-5-peer-multihop.sh down")
    written(five, "scripts/deploy-5-peer-multihop.sh up", "--no-build")
    assert {name: five.balances(name) for name in PEERS} == before
    shown = written(five, "scripts/deploy-5-peer-multihop.sh status")
    assert re.search(r"peer5 .* \d\d:\d\d:\d\d ok", shown), shown


def test_the_host_tells_prometheus_of_containers_and_backups(five: Stack, tmp_path: Path) -> None:
    said = written(
        five,
        "scripts/docker-metrics.sh -f docker/docker-compose.production.yml -o -",
        "-d", str(tmp_path),
    )  # fmt: skip
    for service in ("tigerbeetle", *PEERS):
        assert f'ilp_container_healthy{{project="{five.project}",service="{service}"}} 1\n' in said
    assert f'ilp_backups{{project="{five.project}"}} 0\n' in said
    (made,) = re.findall(r"^ilp_host_metrics_seconds (\d+)$", said, re.MULTILINE)
    assert abs(int(made) - time.time()) < 300
    assert re.search(r"^ilp_engine_disk_free_bytes \d+$", said, re.MULTILINE)
    # Of the first second of 2026, by hand: 20,454 days.
    (tmp_path / "20260101T000000Z").mkdir()
    (tmp_path / "20260101T000000Z" / "MANIFEST").touch()
    said = script(five, "docker-metrics.sh", "-o", "-", "-d", str(tmp_path))
    assert f'ilp_backup_seconds{{project="{five.project}"}} {20_454 * 86_400}\n' in said


def test_a_container_is_checked_from_inside_without_nc_and_ping(five: Stack) -> None:
    assert "ready" in written(five, "docker exec peer1 ilp-connector healthcheck")
    pinged = written(five, "docker exec peer1 ilp-connector ping g.peer5 --count 1")
    assert "1 of 1 fulfilled" in pinged
    written(
        five,
        "docker exec peer1 sh -c 'ilp-connector send --url ws://127.0.0.1:3000 "
        '--auth "sender:$BTP_PEER_SENDER_SECRET" --destination g.peer5 --count 1\'',
    )
    assert "tini" in written(five, "docker exec peer1 cat /proc/1/cmdline")
    assert '"compiled": true' in written(five, "docker logs peer1")


@contextmanager
def load(
    stack: Stack, first: str = "peer1", destination: str = "g.peer5", links: int = 2
) -> Iterator[None]:
    """Packets through all of the stack meanwhile, without end; `links` of the first with the sender.

    From a container of its own: a sender that dies with a node asks for no answer again.
    """
    name = f"{stack.project}-sender"
    command = stack.send_command(first, destination, 10_000_000, 50)
    command[command.index("--url") + 1] = f"ws://{first}:3000"
    image = stack.content["services"][first]["image"]
    network = f"{stack.project}_ilp-network"
    before = fulfilled(stack, first)
    docker("run", "-d", "--init", "--name", name, "--network", network, image, *command[1:])
    try:
        until(lambda: fulfilled(stack, first) > before + 100)
        yield
        assert json.loads(docker("inspect", name))[0]["State"]["Running"], docker("logs", name)
        # What it has sent is answered, also where nobody was there to do so.
        until(lambda: stack.links(first) == links)
    finally:
        docker("rm", "-fv", name)


def fulfilled(five: Stack, service: str) -> int:
    return int(five.api(service, "/api/status")["packetsFulfilled"])


def rejected(five: Stack, service: str) -> int:
    return int(five.api(service, "/api/status")["packetsRejected"])


def until(holds: Callable[[], bool], seconds: float = 60) -> float:
    """Wait for something that happens in a container, and say how long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)
    return time.monotonic() - began


def test_a_connector_stops_under_load_in_two_seconds_and_leaves_nothing_held(five: Stack) -> None:
    container = five.container("peer3")
    with load(five):
        began = time.monotonic()
        docker("stop", "-t", "10", container)
        took = time.monotonic() - began
        code = five.inspect("peer3")["State"]["ExitCode"]
        docker("start", container)
    assert code == 0
    assert took < 2, f"docker stop took {took:.1f} s"
    assert_all_is_well(five)


@pytest.mark.parametrize("service", ["peer3", "peer5"])
def test_a_connector_is_replaced_under_load_and_no_packet_is_rejected(
    five: Stack, service: str
) -> None:
    before = {name: rejected(five, name) for name in PEERS}
    container = five.inspect(service)["Id"]
    with load(five):
        if service == "peer3":
            written(five, "scripts/docker-rebuild.sh --no-build --restart peer3")
        else:
            script(five, "docker-rebuild.sh", "--no-build", "--restart", service)
        seen = fulfilled(five, "peer1")
        until(lambda: fulfilled(five, "peer1") > seen + 100)
        assert {name: rejected(five, name) for name in PEERS if name != service} == {
            name: count for name, count in before.items() if name != service
        }
    assert five.inspect(service)["Id"] != container
    assert_all_is_well(five)


def test_each_that_dies_under_load_comes_back_and_the_books_agree(five: Stack) -> None:
    """One after the other, whether or not those before are whole again."""
    with load(five):
        for service in ("tigerbeetle", "peer1", "peer3"):
            before = fulfilled(five, "peer5")
            # As a crash does. `docker kill` is a stop for the engine's restart policy: see below.
            os.kill(int(five.inspect(service)["State"]["Pid"]), 9)
            until(lambda: fulfilled(five, "peer5") > before + 100)  # noqa: B023 - awaited here
            assert five.inspect(service)["RestartCount"] == 1
    assert_all_is_well(five)


def test_what_docker_killed_under_load_is_started_again_and_what_it_stopped_is_not(
    five: Stack,
) -> None:
    with load(five):
        written(five, "docker kill peer4")
        docker("stop", five.container("peer5"))
        assert not five.is_running("peer4")
        written(five, "scripts/docker-keep-running.sh --once")
        assert five.is_running("peer4")
        assert not five.is_running("peer5")
        docker("start", five.container("peer5"))
    assert_all_is_well(five)


def script(stack: Stack, name: str, *arguments: str) -> str:
    """One of scripts/, on this stack; it has to work. What it printed."""
    options = [] if name == "compose-tb.sh" else ["-f", str(stack.file)]
    done = subprocess.run(
        [ROOT / "scripts" / name, *arguments, *options],
        check=False, capture_output=True, text=True, timeout=300,
        env={**os.environ, "COMPOSE_PROJECT_NAME": stack.project, "FILE": str(stack.file)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_all_is_well(five: Stack) -> None:
    """All healthy and linked again, the books in order."""
    for name in ("tigerbeetle", *PEERS):
        five.wait_healthy(name)
    # Who dials tries again at longer and longer intervals.
    until(lambda: [five.links(name) for name in PEERS] == [1, 2, 2, 2, 1])
    five.send("peer1", "g.peer5", 10)
    five.assert_mirrored()
    five.assert_audit()
    five.assert_no_errors()


def test_connectors_find_a_server_that_moved_within_five_seconds(five: Stack) -> None:
    network = five.content["services"]["tigerbeetle"]["networks"]["ilp-network"]
    network["ipv4_address"] = network["ipv4_address"].rpartition(".")[0] + ".99"
    five.write()
    five.compose("up", "-d", "--no-build", "--no-deps", "tigerbeetle")
    five.wait_healthy("tigerbeetle")

    def all_available() -> bool:
        states = [five.api(name, "/health")["accounting"]["state"] for name in PEERS]
        return states == ["available"] * len(PEERS)

    assert until(all_available) < 5
    assert_all_is_well(five)


def test_a_backup_brings_back_the_books_when_all_else_is_gone(five: Stack, tmp_path: Path) -> None:
    before = {name: five.balances(name) for name in PEERS}
    written(five, "scripts/backup-tigerbeetle.sh", "-d", str(tmp_path))
    shown = written(
        five, """scripts/backup-tigerbeetle.sh --then 'ls -l "$1"'""", "-d", str(tmp_path)
    )
    assert "MANIFEST" in shown, "handed on when it is whole"
    script = [ROOT / "scripts" / "backup-tigerbeetle.sh", "-f", str(five.file), "-d", str(tmp_path)]
    failed = subprocess.run(
        [*script, "--then", "exit 7"],
        check=False, capture_output=True, text=True, timeout=600,
        env={**os.environ, "COMPOSE_PROJECT_NAME": five.project},
    )  # fmt: skip
    assert failed.returncode == 1
    assert "is made and verified, but" in failed.stderr
    assert "exit code 7" in failed.stderr
    five.send("peer1", "g.peer5", 10)
    written(five, "scripts/deploy-5-peer-multihop.sh clean", "-y")
    written(five, "scripts/restore-tigerbeetle.sh", "-d", str(tmp_path), "--yes")
    assert {name: five.balances(name) for name in PEERS} == before
    assert_all_is_well(five)
    five.remove()


# --- other topologies


def ring_of_ten(folder: Path) -> Path:
    plan = Plan(
        topology=Topology.RING, names=default_names(Topology.RING, 10), project=str(ROOT),
        secret=lambda name: f"long-and-random-{name}",
    )  # fmt: skip
    path = folder / "ring.yml"
    path.write_text(compose_file(plan, "ten in a ring"), "utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [
        ("docker-compose.yml", "connector-a", "connector-c"),
        ("docker/docker-compose.mesh.yml", "connector-a", "connector-d"),
        ("docker/docker-compose.hub-spoke.yml", "spoke-1", "spoke-3"),
        ("docker/docker-compose.custom-template.yml", "alice", "bob"),
        ("a ring of ten", "node1", "node6"),
    ],
)
def test_packets_get_across(start: Start, tmp_path: Path, name: str, begin: str, end: str) -> None:
    stack = start(ring_of_ten(tmp_path) if name == "a ring of ten" else ROOT / name)
    stack.check_often()
    try:
        assert stack.up() < UP_SECONDS_MAX
        # Who dialled before the other listened tries again a moment later.
        until(lambda: all(map(stack.is_linked, stack.connectors())))
        if end == "spoke-3":
            written(
                stack,
                "scripts/docker-test-packet-flow.sh -f docker/docker-compose.hub-spoke.yml",
            )
            assert "connector_started" in written(stack, "docker logs connector-hub")
        else:
            assert stack.send(begin, f"g.{end}", 20)["fulfilled"] == 20
        stack.assert_mirrored()
        for node in stack.connectors():
            said = {event["event"] for event in stack.events(node)}
            assert {"connector_started", "btp_connection_established"} <= said
        stack.assert_audit()
        stack.assert_no_errors()
    finally:
        stack.remove()


def test_one_connector_on_one_tigerbeetle(start: Start) -> None:
    stack = start(ROOT / "docker-compose.tigerbeetle.yml", TIGERBEETLE_DEVELOPMENT="true")
    stack.check_often()
    try:
        stack.up()
        written(stack, "docker volume inspect tigerbeetle-data")
        own = stack.environment("connector")["ILP_ADDRESS"]
        assert stack.send("connector", own, 10)["fulfilled"] == 10
        stack.down()
        stack.up()
        assert stack.balances("connector")["sender"] == (10_000, 0)
        stack.assert_audit()
        stack.assert_no_errors()
        shown = script(stack, "docker-network-status.sh")
        assert re.search(r"tigerbeetle .* \d\d:\d\d:\d\d ok", shown), shown
    finally:
        stack.remove()


# In the place of Prometheus, whose image is not everywhere: answers its health check, and notes what it
# was started with.
_PROMETHEUS = r"""#!/bin/sh
set -e
[ "$1" = --config.file=/etc/prometheus/prometheus.yml ] && [ -r "${1#*=}" ]
[ -r /etc/prometheus/alerts.yml ] && : >/prometheus/written
mkdir -p /tmp/www/-
echo "$(stat -c %a /tmp/metrics_key) $(cat /tmp/metrics_key)" >/tmp/www/-/healthy
exec httpd -f -p 9090 -h /tmp/www
"""


@pytest.mark.parametrize(
    "name", ["docker-compose-5-peer-multihop.yml", "docker/docker-compose.production.yml"]
)
def test_prometheus_is_given_the_key_in_a_file_of_its_own(
    start: Start, images: dict[str, str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "prometheus").write_text(_PROMETHEUS)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {SERVER_IMAGE}\nCOPY prometheus /bin/prometheus\n"
        "RUN chmod 755 /bin/prometheus && chmod 1777 /tmp && mkdir /prometheus && chown 65534:65534 /prometheus\n"
        "USER 65534:65534\n"
    )
    docker("build", "-q", "-t", "prometheus-stand-in:test", str(tmp_path))
    stack = start(ROOT / name, PROMETHEUS_IMAGE="prometheus-stand-in:test")
    service = stack.content["services"]["prometheus"]
    service["volumes"] = [
        re.sub(r"^\./", f"{(ROOT / name).parent}/", volume) for volume in service["volumes"]
    ]
    # Nothing else of the file is needed; `env_file` is not there.
    stack.content["services"] = {"prometheus": service}
    service.pop("profiles", None)
    stack.write()
    try:
        stack.up()
        key = service["environment"]["METRICS_KEY"]
        said = stack.execute(
            "prometheus", "wget", "-q", "-O", "-", "http://127.0.0.1:9090/-/healthy"
        )
        assert said.stdout == f"600 {key}\n"
    finally:
        stack.remove()


def test_production_does_not_start_with_the_cluster_id_of_the_example(
    images: dict[str, str],
) -> None:
    options = ["-e", "TIGERBEETLE_PRODUCTION=true", "-e", "TIGERBEETLE_CLUSTER_ID=0"]
    refused = serve(images["TIGERBEETLE_SERVER_IMAGE"], *options)
    assert refused.returncode == 2
    assert "TIGERBEETLE_CLUSTER_ID=0 is the value of the example" in refused.stderr


def test_production_does_not_start_with_the_secrets_of_the_example(images: dict[str, str]) -> None:
    """docker/.env is the env file of the connector too."""
    given = example() | {"HTTP_HOST": "0.0.0.0", "TIGERBEETLE_CLUSTER_ID": "7"}
    options = [word for pair in given.items() for word in ("-e", "=".join(pair))]
    refused = serve(
        images["CONNECTOR_IMAGE"], *options, "-e", "TIGERBEETLE_REPLICAS=172.30.9.10:3000",
        command="run",
    )  # fmt: skip
    assert refused.returncode == 2, refused.stderr
    for name in ("ADMIN_API_KEY", "METRICS_KEY"):
        assert f"{name} has the value of the example" in refused.stderr


def test_the_image_stops_at_once_without_an_init_of_the_engine(images: dict[str, str]) -> None:
    """Also when the signal comes before Python has begun."""
    for wait in (0, 3):
        container = docker("run", "-d", "--tmpfs", "/data", images["CONNECTOR_IMAGE"])
        time.sleep(wait)
        began = time.monotonic()
        docker("stop", "-t", "30", container)
        assert time.monotonic() - began < 15
        docker("rm", "-v", container)


def test_a_container_that_formats_is_not_called_unhealthy(images: dict[str, str]) -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "sh", images["TIGERBEETLE_SERVER_IMAGE"], "-c",
         'exec sh -c "/entrypoint.sh healthcheck; echo result $?" /entrypoint.sh format'],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "result 0" in done.stdout, done


# --- a cluster


CLUSTER = "docker/docker-compose.tigerbeetle-cluster.yml"
REBUILD = f"scripts/docker-rebuild.sh -f {CLUSTER} connector-b"


def rebuild_under_load(stack: Stack, tmp_path: Path) -> None:
    """A new image of a service in a profile is built and takes its place; no packet is rejected."""
    service = stack.content["services"]["connector-b"]
    (tmp_path / "Dockerfile").write_text(f"FROM {service['image']}\nLABEL rebuilt=yes\n")
    service |= {"image": f"{stack.project}:rebuilt", "build": str(tmp_path)}
    stack.write()
    before = stack.inspect("connector-b")["Id"]
    with load(stack, "connector-a", "g.connector-b"):
        written(stack, REBUILD)
        seen = fulfilled(stack, "connector-a")
        until(lambda: fulfilled(stack, "connector-a") > seen + 100)
    assert rejected(stack, "connector-a") == 0
    assert stack.inspect("connector-b")["Id"] != before


def replace_replicas_under_load(stack: Stack, replicas: list[str]) -> None:
    """One after the other, and only while all others are there."""
    before = [stack.inspect(name)["Id"] for name in replicas]
    with load(stack, "connector-a", "g.connector-b"):
        script(stack, "docker-rebuild.sh", "--no-build", "--restart", "-t", "120", *replicas)
        seen = fulfilled(stack, "connector-a")
        until(lambda: fulfilled(stack, "connector-a") > seen + 100)
    assert not {stack.inspect(name)["Id"] for name in replicas} & set(before)
    stack.compose("stop", "tigerbeetle-0")
    refused = subprocess.run(
        [ROOT / "scripts" / "docker-rebuild.sh", "-f", str(stack.file), "--no-build", "--restart", "tigerbeetle-1"],
        check=False, capture_output=True, text=True, timeout=120,
        env={**os.environ, "COMPOSE_PROJECT_NAME": stack.project},
    )  # fmt: skip
    assert refused.returncode == 1
    assert "tigerbeetle-0 is exited: to replace tigerbeetle-1 now could stop the ledger" in (
        refused.stderr
    )
    stack.compose("start", "tigerbeetle-0")
    stack.wait_healthy("tigerbeetle-0")


def test_a_cluster_and_a_replica_that_lost_its_file_is_recovered_from_the_others(
    start: Start, tmp_path: Path
) -> None:
    # Development mode takes a third of the memory and is right for one packet after the other.
    stack = start(ROOT / CLUSTER, TIGERBEETLE_DEVELOPMENT="true")
    replicas = [f"tigerbeetle-{number}" for number in range(3)]
    try:
        written(stack, "make compose-tb-init")
        shown = written(stack, "make compose-tb-status")
        assert re.search(r"tigerbeetle-2 .* \d\d:\d\d:\d\d ok", shown), shown
        assert "cluster" in written(stack, "docker logs tigerbeetle-0")
        written(stack, "docker exec tigerbeetle-0 sh -c 'grep -h VmLck /proc/[0-9]*/status'")
        limit = written(stack, "docker inspect -f '{{.HostConfig.MemorySwap}}' tigerbeetle-0")
        assert int(limit) == stack.inspect("tigerbeetle-0")["HostConfig"]["Memory"]
        written(stack, REBUILD, code=3)
        stack.profiles = ["connectors"]
        stack.up()
        stack.send("connector-a", "g.connector-b", 20)
        written(stack, f"docker compose -f {CLUSTER} rm -fsv tigerbeetle-2")
        written(stack, "docker volume rm docker_tigerbeetle-2-data")
        stack.send("connector-a", "g.connector-b", 20)
        # It does not start as if it were new.
        written(stack, f"docker compose -f {CLUSTER} up -d tigerbeetle-2")
        until(lambda: "0_2.tigerbeetle is lost" in written(stack, "docker logs tigerbeetle-2"))
        written(stack, "make compose-tb-recover REPLICA=tigerbeetle-2")
        # With another one gone, nothing goes on unless the recovered one takes part.
        stack.compose("stop", "tigerbeetle-0")
        stack.send("connector-a", "g.connector-b", 20)
        stack.compose("start", "tigerbeetle-0")
        for name in replicas:
            stack.wait_healthy(name)
        # Last: a replica that is recovered has all of it to fetch.
        rebuild_under_load(stack, tmp_path)
        replace_replicas_under_load(stack, replicas)
        stack.assert_mirrored()
        stack.assert_audit()
        stack.assert_no_errors()
    finally:
        stack.remove()
        subprocess.run(
            ["docker", "rmi", f"{stack.project}:rebuilt"], check=False, capture_output=True
        )
