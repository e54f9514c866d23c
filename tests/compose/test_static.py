"""Checks of compose files, images and docs that need no Docker engine."""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector.base.errors import ConfigError
from connector.settings.load import load
from connector.settings.model import PeerSettings, Settings
from tests.support.acceptance import table
from tests.support.compose import (
    ROOT,
    compose_files,
    example,
    fill_in,
    read,
    replaced,
    variables,
)

FILES = compose_files()
EXAMPLE = ROOT / ".env.production.example"
SERVER = ROOT / "docker" / "tigerbeetle"
IO_URING = {"io_uring_setup", "io_uring_enter", "io_uring_register"}

per_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def is_server(service: dict[str, Any]) -> bool:
    return "TIGERBEETLE_REPLICA_ID" in service.get("environment", {})


def is_connector(service: dict[str, Any]) -> bool:
    return "NODE_ID" in service.get("environment", {})


def test_every_file_that_was_promised_is_there() -> None:
    names = {str(path.relative_to(ROOT)) for path in FILES}
    assert names >= {
        "docker-compose.yml",
        "docker-compose-5-peer-multihop.yml",
        "docker-compose.tigerbeetle.yml",
        "docker/docker-compose.mesh.yml",
        "docker/docker-compose.hub-spoke.yml",
        "docker/docker-compose.custom-template.yml",
        "docker/docker-compose.tigerbeetle-cluster.yml",
        "docker/docker-compose.production.yml",
    }


# --- all files


@per_file
def test_who_talks_to_tigerbeetle_is_allowed_io_uring(path: Path) -> None:
    talking = {
        name: service
        for name, service in read(path)["services"].items()
        if is_server(service) or "TIGERBEETLE_REPLICAS" in service.get("environment", {})
    }
    for name, service in talking.items():
        profiles = [
            option.partition("=")[2]
            for option in service["security_opt"]
            if option.startswith("seccomp=")
        ]
        assert len(profiles) == 1, f"{name} has no seccomp profile"
        assert (path.parent / profiles[0]).resolve() == SERVER / "seccomp.json", name


@per_file
def test_who_is_waited_for_has_a_health_check(path: Path) -> None:
    services = read(path)["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, f"{name} on {other}"
            assert services[other]["healthcheck"]["test"], f"{name} on {other}"


@per_file
def test_every_variable_is_one_that_the_connector_knows(path: Path) -> None:
    for name, service in read(path)["services"].items():
        if is_connector(service):
            settings = load(
                {key: str(value) for key, value in service["environment"].items()}
            ).settings
            assert settings.http_host == "0.0.0.0", name
            assert settings.admin_api_key is not None, name


@per_file
def test_every_variable_is_one_that_the_server_image_knows(path: Path) -> None:
    known = set(re.findall(r"TIGERBEETLE_[A-Z_]+", (SERVER / "entrypoint.sh").read_text()))
    for service in read(path)["services"].values():
        if is_server(service):
            assert set(service["environment"]) <= known


@per_file
def test_links_have_two_ends_with_one_secret_and_lead_to_a_service(path: Path) -> None:
    nodes = {
        name: load({key: str(value) for key, value in service["environment"].items()}).settings
        for name, service in read(path)["services"].items()
        if is_connector(service)
    }
    for name, settings in nodes.items():
        for peer in settings.peers:
            if peer.id == "sender":
                continue
            back = [other for other in nodes[peer.id].peers if other.id == name]
            assert [other.secret for other in back] == [peer.secret]
            assert (peer.url is None) != (back[0].url is None), "one side dials"
            assert peer.url in (None, f"ws://{peer.id}:{nodes[peer.id].btp_server_port}")
    if len(nodes) > 1:
        assert any(peer.url for settings in nodes.values() for peer in settings.peers)


@per_file
def test_containers_may_do_no_more_than_they_need(path: Path) -> None:
    for name, service in read(path)["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["mem_limit"], name
        assert service["restart"] == "unless-stopped", name
        if is_server(service) or is_connector(service):
            assert service["read_only"] is True, name
            assert "privileged" not in service


@per_file
def test_only_btp_is_open_to_others(path: Path) -> None:
    for name, service in read(path)["services"].items():
        ports = [port.rsplit(":", 2) for port in service.get("ports", [])]
        assert not (ports and is_server(service)), "TigerBeetle asks nobody who he is"
        for address, _, inner in ports:
            open_to_others = (is_connector(service) and inner == "3000") or name == "proxy"
            assert address == "127.0.0.1" or open_to_others, name


@per_file
def test_servers_have_memory_to_start_with_and_an_address_that_stays(path: Path) -> None:
    content = read(path)
    for name, service in content["services"].items():
        if not is_server(service):
            continue
        (network,) = service["networks"].values()
        assert network["ipv4_address"], name
        limit = re.fullmatch(r"(\d+)([mg])", service["mem_limit"])
        assert limit is not None
        assert int(limit[1]) * {"m": 1, "g": 1024}[limit[2]] >= 2560, name
        addresses = service["environment"].get("TIGERBEETLE_ADDRESSES", "")
        if addresses:
            own = addresses.split(",")[int(service["environment"]["TIGERBEETLE_REPLICA_ID"])]
            assert own.split(":")[0] == network["ipv4_address"]


@per_file
def test_what_is_mounted_and_built_from_is_there(path: Path) -> None:
    content = read(path)
    for service in content["services"].values():
        if "build" in service:
            folder = path.parent / service["build"]["context"]
            text = (folder / "Dockerfile").read_text("utf-8")
            # Without a value: that of the environment, where there is one.
            (base,) = service["build"]["args"]
            assert f"\nARG {base}=" in text
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            # Made by scripts/production.sh and scripts/docker-metrics.sh, or by the engine, empty.
            if source.startswith(("./secrets/", "./metrics")):
                continue
            if source.startswith("."):
                assert (path.parent / source).exists(), source
            else:
                assert source in content["volumes"], source


@per_file
def test_what_old_and_new_compose_both_read(path: Path) -> None:
    text = path.read_text("utf-8")
    content = read(path)
    assert {"version", "name", "include"}.isdisjoint(content)
    assert "start_interval" not in text
    assert "pull_policy" not in text
    assert not re.search(r"\$\{[^}]*\$\{", text), "1.29 fills in no variable within a variable"
    built = [
        (service["image"], service["build"]["context"])
        for service in content["services"].values()
        if "build" in service
    ]
    assert len(built) == len(set(built)), "build each image on one service only"


@per_file
def test_images_have_a_version(path: Path) -> None:
    for service in read(path)["services"].values():
        assert re.search(r":[^:]+$", service["image"]), service["image"]
        assert not service["image"].endswith(":latest")


@per_file
def test_the_variables_of_the_file_are_explained(path: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    for name, rest in variables(path.read_text("utf-8")).items():
        explained = re.search(rf"^(?:# )?{name}=", text, re.MULTILINE)
        assert explained, f"${{{name}{rest}}} is not in {EXAMPLE.name}"


@per_file
def test_containers_have_the_names_of_their_services(path: Path) -> None:
    for name, service in read(path)["services"].items():
        if is_server(service) or is_connector(service):
            expected = "tigerbeetle-5peer" if "5-peer" in path.name and is_server(service) else name
            assert service["container_name"] == expected
            assert "init" not in service, "the image has its own"


def test_the_names_that_were_promised() -> None:
    names = {
        path.name: set(read(path)["services"]) for path in FILES if path.parent.name == "docker"
    }
    assert names["docker-compose.mesh.yml"] == {f"connector-{one}" for one in "abcd"}
    assert names["docker-compose.hub-spoke.yml"] == {
        "connector-hub", "spoke-1", "spoke-2", "spoke-3",
    }  # fmt: skip
    replicas = {"tigerbeetle-0", "tigerbeetle-1", "tigerbeetle-2"}
    assert names["docker-compose.tigerbeetle-cluster.yml"] >= replicas | {"connector-a"}
    assert names["docker-compose.production.yml"] >= replicas


@pytest.mark.parametrize("name", ["tigerbeetle-cluster", "production"])
def test_addresses_port_and_subnet_of_a_cluster_come_from_the_environment(name: str) -> None:
    path = ROOT / "docker" / f"docker-compose.{name}.yml"
    values = {f"TIGERBEETLE_{n}_IPV4": f"10.1.1.{n}" for n in range(3)} | {
        "TIGERBEETLE_PORT": "4000", "ILP_NETWORK_SUBNET": "10.1.1.0/24",
        "LEDGER_NETWORK_SUBNET": "10.1.1.0/24", "TIGERBEETLE_DATA_DIR": "/data/books",
    }  # fmt: skip
    content = yaml.safe_load(fill_in(path.read_text("utf-8"), replaced() | values))
    addresses = "10.1.1.0:4000,10.1.1.1:4000,10.1.1.2:4000"
    for service in content["services"].values():
        if is_server(service):
            assert service["environment"]["TIGERBEETLE_ADDRESSES"] == addresses
            assert service["environment"]["TIGERBEETLE_DATA_DIR"] == "/data/books"
            (network,) = service["networks"].values()
            assert network["ipv4_address"] in addresses
        elif is_connector(service):
            assert service["environment"]["TIGERBEETLE_REPLICAS"] == addresses
    assert "172.30." not in str(content)


@pytest.mark.parametrize("name", ["tigerbeetle-cluster", "production"])
def test_a_replica_remembers_on_another_volume_that_it_has_had_a_data_file(name: str) -> None:
    content = read(ROOT / "docker" / f"docker-compose.{name}.yml")
    assert "tigerbeetle-formatted" in content["volumes"]
    for service in filter(is_server, content["services"].values()):
        assert "tigerbeetle-formatted:/formatted" in service["volumes"]
        # It would have no effect for a user who is not root: the limit is what counts.
        assert "cap_add" not in service
        assert set(service["ulimits"]["memlock"]) == {"soft", "hard"}
        assert service["memswap_limit"] == service["mem_limit"]


def test_one_connector_on_one_tigerbeetle() -> None:
    content = read(ROOT / "docker-compose.tigerbeetle.yml")
    assert list(content["services"]) == ["tigerbeetle", "connector"]
    assert content["services"]["tigerbeetle"]["volumes"] == ["tigerbeetle-data:/data"]
    assert content["volumes"]["tigerbeetle-data"] == {"name": "tigerbeetle-data"}
    environment = content["services"]["connector"]["environment"]
    assert environment["TIGERBEETLE_REPLICAS"] == "tigerbeetle:3000"
    text = EXAMPLE.read_text("utf-8")
    for name in ("REPLICA_COUNT", "PORT", "DATA_DIR"):
        assert re.search(rf"^# TIGERBEETLE_{name}=", text, re.MULTILINE)


def test_production_refuses_the_cluster_of_the_example() -> None:
    content = read(ROOT / "docker" / "docker-compose.production.yml")
    for service in filter(is_server, content["services"].values()):
        assert service["environment"]["TIGERBEETLE_PRODUCTION"] == "true"
    assert example()["TIGERBEETLE_CLUSTER_ID"] == "0"
    # Grafana's password is ADMIN_API_KEY, which the connector checks.
    assert "connector" in content["services"]["grafana"]["depends_on"]


def entrypoint(tmp_path: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The entrypoint of the server's image, with a program that makes empty data files."""
    program = tmp_path / "tigerbeetle"
    program.write_text(
        '#!/bin/sh\ncase $1 in format | recover) for last; do :; done; : >"$last" ;; '
        'start) echo "started $*" ;; esac\n'
    )
    program.chmod(0o755)
    for name in ("data", "formatted"):
        (tmp_path / name).mkdir(exist_ok=True)
    return subprocess.run(
        ["sh", SERVER / "entrypoint.sh", *command],
        check=False, capture_output=True, text=True, timeout=60,
        env={
            "PATH": "/usr/bin:/bin", "TIGERBEETLE_PROGRAM": str(program),
            "TIGERBEETLE_DATA_DIR": str(tmp_path / "data"),
            "TIGERBEETLE_MARKER_DIR": str(tmp_path / "formatted"),
            "TIGERBEETLE_CLUSTER_ID": "7", "TIGERBEETLE_REPLICA_COUNT": "3",
            "TIGERBEETLE_ADDRESSES": "1.1.1.1:1,1.1.1.2:1,1.1.1.3:1", **settings,
        },
    )  # fmt: skip


def test_a_replica_formats_once_and_not_when_its_file_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "data" / "7_0.tigerbeetle"
    assert "started" in entrypoint(tmp_path, "start").stdout
    assert file.exists()
    file.unlink()
    for command in ("start", "format"):
        refused = entrypoint(tmp_path, command)
        assert refused.returncode == 3
        assert "7_0.tigerbeetle is lost" in refused.stderr
        assert "scripts/compose-tb.sh recover" in refused.stderr
        assert not file.exists()
    assert entrypoint(tmp_path, "recover").returncode == 0
    assert "started" in entrypoint(tmp_path, "start").stdout


def test_a_file_from_before_the_marker_counts_as_had(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "7_0.tigerbeetle"
    file.touch()
    assert "started" in entrypoint(tmp_path, "start").stdout
    file.unlink()
    assert entrypoint(tmp_path, "start").returncode == 3


def test_a_damaged_file_is_set_aside_before_a_replica_is_recovered(tmp_path: Path) -> None:
    assert entrypoint(tmp_path, "format").returncode == 0
    refused = entrypoint(tmp_path, "recover")
    assert refused.returncode == 2
    assert "set-aside" in refused.stderr
    assert entrypoint(tmp_path, "set-aside").returncode == 0
    assert entrypoint(tmp_path, "recover").returncode == 0
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"7_0.tigerbeetle", "7_0.tigerbeetle.set-aside"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"TIGERBEETLE_CLUSTER_ID": "0"}, "TIGERBEETLE_CLUSTER_ID=0 is the value of the example"),
        ({"TIGERBEETLE_DEVELOPMENT": "true"}, "TIGERBEETLE_DEVELOPMENT=true is for tests"),
    ],
)
def test_in_production_what_is_for_tests_is_refused(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    refused = entrypoint(tmp_path, "start", TIGERBEETLE_PRODUCTION="true", **settings)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert not list((tmp_path / "data").iterdir())


def test_a_server_that_is_starting_is_waited_for_by_its_health_check(tmp_path: Path) -> None:
    """So it is healthy when it listens, not at the next check; one that never listens is not."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {
        # Refused twice, then there.
        "nc": f'echo "$4" >>"{tmp_path}/asked"; [ "$(wc -l <"{tmp_path}/asked")" -gt "$REFUSES" ]',
        "sleep": ":",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}:/usr/bin:/bin"
    waited = entrypoint(tmp_path, "healthcheck", PATH=path, REFUSES="2")
    assert waited.returncode == 0, waited.stderr
    assert (tmp_path / "asked").read_text().split() == ["1"] * 3
    refused = entrypoint(
        tmp_path, "healthcheck", PATH=path, REFUSES="999", TIGERBEETLE_HEALTHCHECK_WAIT="1"
    )
    assert refused.returncode == 1
    assert "port 1 takes no connections" in refused.stderr
    assert len((tmp_path / "asked").read_text().split()) == 3 + 6


@per_file
def test_a_health_check_may_take_as_long_as_it_waits(path: Path) -> None:
    text = (SERVER / "entrypoint.sh").read_text("utf-8")
    waits = {
        is_server: int(re.findall(r"TIGERBEETLE_HEALTHCHECK_WAIT:-(\d+)", text)[0]),
        is_connector: int(
            re.findall(r"CONNECTOR_HEALTHCHECK_WAIT=(\d+)", (ROOT / "Dockerfile").read_text())[0]
        ),
    }
    for service in read(path)["services"].values():
        for kind, seconds in waits.items():
            if kind(service):
                assert int(service["healthcheck"]["timeout"].removesuffix("s")) > seconds + 1


# --- the five peers


def test_five_peers_in_a_line_behind_tigerbeetle() -> None:
    content = read(ROOT / "docker-compose-5-peer-multihop.yml")
    services = content["services"]
    peers = [f"peer{number}" for number in range(1, 6)]
    server = services["tigerbeetle"]
    assert server["container_name"] == "tigerbeetle-5peer"
    assert server["volumes"] == ["tigerbeetle-5peer-data:/data"]
    assert content["volumes"]["tigerbeetle-5peer-data"] == {"name": "tigerbeetle-5peer-data"}
    assert "ilp-network" in server["networks"]
    assert "ports" not in server
    for index, peer in enumerate(peers):
        service = services[peer]
        environment = service["environment"]
        assert (environment["NODE_ID"], environment["ILP_ADDRESS"]) == (peer, f"g.{peer}")
        assert environment["TIGERBEETLE_REPLICAS"] == "tigerbeetle-5peer:3000"
        ports = [port.rsplit(":", 2)[1:] for port in service["ports"]]
        assert ports == [[str(3000 + index), "3000"], [str(9080 + index), "8080"]]
        assert set(service["depends_on"]) == {"tigerbeetle"}, "all at once"
        neighbours = {*peers[max(0, index - 1) : index], *peers[index + 1 : index + 2]}
        settings = load({key: str(value) for key, value in environment.items()}).settings
        assert {peer.id for peer in settings.peers} - {"sender"} == neighbours
        assert {route.prefix for route in settings.routes} == {
            f"g.{other}" for other in peers if other != peer
        }


@pytest.mark.parametrize("path", FILES[:1], ids=lambda path: path.name)
def test_a_secret_that_is_not_set_is_named(path: Path) -> None:
    text = (ROOT / "docker-compose-5-peer-multihop.yml").read_text("utf-8")
    with pytest.raises(KeyError, match="ADMIN_API_KEY"):
        fill_in(text, {})


@pytest.mark.parametrize(
    "name", ["docker-compose-5-peer-multihop.yml", "docker/docker-compose.production.yml"]
)
def test_connectors_refuse_the_secrets_of_the_example(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    services = yaml.safe_load(fill_in(text, example()))["services"]
    for service in filter(is_connector, services.values()):
        with pytest.raises(ConfigError) as refused:
            load({key: str(value) for key, value in service["environment"].items()})
        known = [key for key, value in service["environment"].items() if "change-me" in str(value)]
        assert {"ADMIN_API_KEY", "METRICS_KEY"} <= set(known)
        assert sorted(line.split()[0] for line in refused.value.faults) == sorted(known)


def test_the_line_of_three_needs_no_env_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    services = yaml.safe_load(fill_in(text, {}))["services"]
    assert list(services) == ["connector-a", "connector-b", "connector-c"]


# --- the example


def test_the_example_explains_every_setting_and_no_other() -> None:
    text = EXAMPLE.read_text("utf-8")
    named = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
    ours = {name.upper() for name in Settings.model_fields if name != "peers"}
    ours |= {f"BTP_PEER_ALICE_{name.upper()}" for name in PeerSettings.model_fields if name != "id"}
    of_compose = {
        name for path in FILES for name in variables(path.read_text("utf-8")) if name not in ours
    }
    assert named == ours | of_compose | {"CONFIG_FILE", "BASE_IMAGE", "TIGERBEETLE_IMAGE"}


def test_the_example_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "env_example.py"))["example"]()
    assert EXAMPLE.read_text("utf-8") == made, (
        "run: python scripts/env_example.py > .env.production.example"
    )


def test_the_example_has_values_for_development_and_production() -> None:
    text = EXAMPLE.read_text("utf-8")
    for block in text.split("\n\n"):
        if re.search(r"^(?:# )?[A-Z][A-Z0-9_]*=", block, re.MULTILINE) and "cp .env" not in block:
            assert "# development" in block, block
            assert "production:" in block, block


def test_what_compose_reads_of_an_env_file_is_no_fault_of_a_node() -> None:
    text = EXAMPLE.read_text("utf-8").split("# --- the connector")[0]
    names = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE)
    load({"NODE_ID": "a", **dict.fromkeys(names, "1")})


def test_a_node_takes_the_example_as_its_environment() -> None:
    settings = load({**example(), "TIGERBEETLE_REPLICAS": "tigerbeetle:3000"}).settings
    assert settings.ilp_address == "test.connector"


# --- the images


def test_server_and_client_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (client,) = [text for text in project["dependencies"] if text.startswith("tigerbeetle==")]
    version = client.partition("==")[2]
    assert f"tigerbeetle:{version}\n" in (SERVER / "Dockerfile").read_text("utf-8")
    for path in FILES:
        for found in re.findall(r"ilp-connector-tigerbeetle:([\d.]+)", path.read_text("utf-8")):
            assert found.rstrip(".") == version, path.name


@pytest.mark.parametrize("path", [ROOT / "Dockerfile", SERVER / "Dockerfile"], ids=str)
def test_any_engine_builds_the_images(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "# syntax=" not in text
    assert "<<" not in text
    assert "--mount" not in text
    assert "--chmod" not in text
    assert "@sha256" not in text, "only a registry serves those: docker/images.lock has them"
    assert re.search(r"^USER 1000", text, re.MULTILINE)
    assert "HEALTHCHECK" in text
    assert "EXPOSE" in text
    assert "LABEL" in text


def test_bases_are_pinned_by_digest_and_have_the_tags_of_the_dockerfiles() -> None:
    lines = (ROOT / "docker" / "images.lock").read_text("utf-8").splitlines()
    pinned = dict(line.split() for line in lines if not line.startswith("#"))
    assert set(pinned) == {"BASE_IMAGE", "TIGERBEETLE_IMAGE"}
    texts = [(folder / "Dockerfile").read_text("utf-8") for folder in (ROOT, SERVER)]
    for name, image in pinned.items():
        tag, _, digest = image.partition("@")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
        assert any(f"\nARG {name}={tag}\n" in text for text in texts)


def test_the_image_holds_only_what_is_locked_and_a_compiled_core() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for command in re.findall(r"pip --python \S+ install[^&;]*", line):
            assert "--require-hashes" in command or "--no-index" in command, command
    assert "--no-build-isolation" in text
    assert "ARG CONNECTOR_COMPILE=yes" in text
    assert 'ENTRYPOINT ["tini", "--", "ilp-connector"]' in text


def test_secrets_and_books_stay_out_of_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert "*" in lines, "only what is named goes in"
    assert ".env*" in lines
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").split()


def test_the_profile_allows_io_uring_and_is_else_dockers() -> None:
    profile = json.loads((SERVER / "seccomp.json").read_text("utf-8"))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    ours, *rest = profile["syscalls"]
    assert set(ours["names"]) == IO_URING
    assert ours["action"] == "SCMP_ACT_ALLOW"
    free = {
        name
        for rule in rest
        for name in rule["names"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not {"includes", "args"} & set(rule)
    }
    assert not free & IO_URING
    # What Docker denies a container that was given nothing.
    assert not free & {
        "mount", "umount2", "unshare", "setns", "bpf", "perf_event_open", "init_module", "reboot",
        "swapon", "keyctl", "add_key", "kexec_load", "open_by_handle_at", "userfaultfd", "clone",
    }  # fmt: skip
    assert {"read", "write", "futex", "execve", "epoll_wait", "close_range"} <= free


def test_the_entrypoint_is_plain_sh() -> None:
    script = SERVER / "entrypoint.sh"
    assert script.read_text("utf-8").startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", script], check=True)


# --- scripts and docs


def documents() -> list[Path]:
    return [
        ROOT / "README.md",
        ROOT / "docker" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *FILES,
        EXAMPLE,
    ]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_script_that_is_named_exists(path: Path) -> None:
    for name in re.findall(r"\bscripts/[\w./-]*\w", path.read_text("utf-8")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_verb_of_make_that_is_named_exists(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    verbs = {
        verb
        for line in makefile.splitlines()
        if (rule := re.match(r"([\w -]+):(?!=)", line))
        for verb in rule[1].split()
    }
    text = path.read_text("utf-8")
    named = re.findall(r"(?:`|^\$? *)make ([a-z][\w-]*)", text, re.MULTILINE)
    assert set(named) <= verbs


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_compose_file_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    for name in re.findall(r"-f ((?:docker/)?docker-compose[\w.-]*\.yml)", text):
        found = (ROOT / name).exists() or (path.parent / name).exists()
        assert found or name == "docker-compose.ring.yml", name


BY_HAND = {
    "scripts/production.sh init --node-id hub": "without an engine: tests/unit/test_scripts.py",
    "scripts/production.sh rotate admin-api-key": "three replicas of production take 8 GB of memory",
    "docker exec connector ls": "the same",
    "docker inspect -f '{{.Config.Env}}' connector": "the same",
    "scripts/docker-rebuild.sh -f docker/docker-compose.production.yml": "with the cluster's file",
    "docker-compose.production.yml --profile proxy up -d": "without the images of others",
    "docker run --rm ilp-connector:local ping g.hub": "without the images of others",
    "docker-compose.production.yml --profile alerts up -d": "without the images of others",
    "docker-compose.tigerbeetle.yml up -d --build": "tests start it from images of their own",
    "docker/docker-compose.hub-spoke.yml up -d --build": "tests start it from images of their own",
    "docker-compose-5-peer-multihop.yml --profile monitoring up -d": "without the images of others",
    "docker-compose.production.yml up -d": "without the images of others, and from another env file",
    "docker-compose.tigerbeetle-cluster.yml config": "read without an engine, with the same values",
    "cp .env.production.example": "values of the example are given in another way",
    "docker logs connector": "the connector is run without the rest of the file",
    "docker run -d --name one": "without a name that another container may have",
    "docker run --rm ilp-connector:local": "with the image of the tests, which has another name",
    "docker stop one": "without a name that another container may have",
    "kill -9": "the command names no process; tests do",
}
"""Commands of the acceptance table that no test runs as they stand, and why."""


def commands_that_tests_run() -> set[str]:
    """The second argument of every `written(...)` of the tests on the engine."""
    tree = ast.parse((ROOT / "tests" / "compose" / "test_engine.py").read_text("utf-8"))
    known: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            name, text = ast.unparse(node.targets[0]), ast.unparse(node.value)
            known[name] = eval(text, {}, known)
    return {
        eval(ast.unparse(call.args[1]), {}, known)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "written"
    }


def test_every_command_of_the_acceptance_table_is_run_by_a_test_or_named_here() -> None:
    run = commands_that_tests_run()
    for asked, commands in table().items():
        assert commands, f"{asked}: no command shows it"
        for command in commands:
            by_hand = [
                part for part in BY_HAND if re.search(rf"{re.escape(part)}(?![\w-])", command)
            ]
            assert (command in run) != bool(by_hand), f"{asked}: {command} {by_hand}"
