"""Commands for the node of this machine: run, check-config, healthcheck."""

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import stat
import sys
import time
from typing import Annotated, Any, Optional

import typer

from connector.base.errors import ConnectorError
from connector.base.stop import Stop
from connector.cli import bounds
from connector.cli.common import AsJson, fail, faults_named, get, run_loop, stop_event, url_of
from connector.tools.healthcheck import WAIT_SECONDS_MAX, WAIT_VARIABLE, Presence
from connector.tools.terminal import console, plain, table

_DEFAULT = "default"
"""The source of what is not set."""

# The packet path creates no reference cycles, so frequent cycle collection would only add pauses.
# Numbers of allocations, as in `gc.set_threshold`.
_GC_THRESHOLDS = (100_000, 20, 50)


# Deliberately not an environment variable: one that stays set would accept the next loss too.
AcceptLoss = Annotated[
    bool,
    typer.Option(
        "--accept-ledger-loss",
        help="Start although the ledger has less than it acknowledged: what is missing is lost. "
        "For one start, after the right ledger could not be restored.",
    ),
]


StandsBy = Annotated[
    bool,
    typer.Option(
        "--standby",
        help="Wait until no other process of this node is active, then take over. Beside a process "
        "on the same DATA_DIR, or with a DATA_DIR of its own on the same TigerBeetle cluster.",
    ),
]
TakesOver = Annotated[
    bool,
    typer.Option(
        "--take-over",
        help="Take over from the active process of this node on the same TigerBeetle cluster, which "
        "stops; also where it had taken over from this one.",
    ),
]
UntilEof = Annotated[
    bool,
    typer.Option(
        "--until-eof",
        help="Stop when standard input, a pipe, ends: for a program that starts nodes, and that must "
        "not leave them behind when it is killed.",
    ),
]


def run(
    accept_ledger_loss: AcceptLoss = False,
    standby: StandsBy = False,
    take_over: TakesOver = False,
    until_eof: UntilEof = False,
) -> None:
    """Run the daemon, configured from the environment (default).

    One process of a node is active at a time. Exit code 3: another one has taken over. SIGTERM stops
    it; so does SIGUSR2, which tells peers that a new process follows at once. SIGUSR1 is ignored.
    """
    from connector.base.log import drain
    from connector.node.daemon import serve
    from connector.settings.load import load

    async def work() -> None:
        stop = stop_event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, stop.for_replacement)
        if until_eof:
            _stop_at_eof(stop)
        await serve(
            settings,
            stop,
            standby=standby,
            take_over=take_over,
            accept_ledger_loss=accept_ledger_loss,
        )

    if standby and take_over:
        raise fail("--standby waits for the active process, --take-over does not: choose one", 2)
    with faults_named():
        # Settings can be large and are kept: cycle collection would double the time to read them.
        gc.disable()
        settings = load().settings
        gc.enable()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        # The ledger's thread needs the interpreter only briefly: switch to it quickly.
        sys.setswitchinterval(0.0001)
        _raise_open_files_limit()
        try:
            run_loop(work())
        finally:
            drain()


def _stop_at_eof(stop: Stop) -> None:
    """Have `stop` set when standard input ends."""
    if sys.stdin is None:
        raise fail("--until-eof: standard input is closed; give it a pipe", 2)
    descriptor = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
        raise fail("--until-eof: standard input is not a pipe; give it one", 2)
    loop = asyncio.get_running_loop()

    def readable() -> None:
        # What is written to it has no meaning; an error is an end as well.
        with contextlib.suppress(OSError):
            if os.read(descriptor, 65_536):
                return
        loop.remove_reader(descriptor)
        stop.set()

    try:
        loop.add_reader(descriptor, readable)
    except OSError as error:
        raise fail(
            f"--until-eof: standard input cannot be waited for: {error.strerror}", 2
        ) from None


def _raise_open_files_limit() -> None:
    """Raise the limit of open files from the usual 1024: each link is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bounds.OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_config(
    as_json: AsJson = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Defaults too; JSON always has them.")
    ] = False,
) -> None:
    """Validate the configuration and print it, secrets redacted, with the source of each value.

    Without --all, only what is set.
    """
    from connector.node.preflight import NO_PEERS, check, learned_first, without_effect
    from connector.settings.describe import describe
    from connector.settings.load import load
    from connector.settings.overlay import with_changes

    with faults_named():
        loaded = load()
        check(loaded.settings)
        changed = with_changes(loaded)
        rows = describe(changed)
    if as_json:
        print(json.dumps([dict(zip(("name", "value", "source"), row, strict=True)) for row in rows],
                         indent=2))  # fmt: skip
        return
    screen = console()
    shown = table("setting", "value", "source", spare=("source",))
    for name, value, source in rows:
        is_default = source == _DEFAULT
        if all_ or not is_default:
            said = "environment" if source == name else source
            shown.add_row(name, plain(value), plain(said), style="dim" if is_default else None)
    if len(shown):
        screen.print(shown)
    notes = without_effect(changed.settings)
    if not changed.settings.peers:
        notes.append(NO_PEERS)
    if said := learned_first(changed.settings):
        notes.append(said)
    for note in notes:
        screen.print(f"note: {plain(note)}")
    left_out = len(rows) - len(shown)
    if left_out:
        screen.print(f"the configuration is valid; {left_out} settings have their defaults: --all")


def healthcheck(
    wait: Annotated[
        int,
        typer.Option(
            "--wait",
            help="Seconds to wait for it; not for a process that has ended.",
            min=0,
            max=WAIT_SECONDS_MAX,
            envvar=WAIT_VARIABLE,
        ),
    ] = 0,
    url: Annotated[
        Optional[str],
        typer.Option(
            help="HTTP address of a node; else that of this environment.", callback=url_of
        ),
    ] = None,
) -> None:
    """Exit 0 when a node is ready, that of this environment or --url; for Docker's HEALTHCHECK."""
    if url is not None:
        body = _ready_within(url, wait, verify=True)
    else:
        from connector.settings.load import load

        with faults_named():
            settings = load().settings
        host = settings.http_host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - reaching it, not binding
        where = f"[{host}]" if ":" in host else host
        scheme = "http" if settings.http_tls_cert is None else "https"
        # The certificate names the public host; this connects to the loopback address.
        body = _ready_within(
            f"{scheme}://{where}:{settings.http_port}", wait, Presence(settings.http_port)
        )
    if body.get("status") not in ("ready", "degraded"):
        raise fail(str(body.get("reason") or body.get("error") or body), 1)
    print(body["status"])


def _ready_within(
    url: str, wait_s: float, presence: Presence | None = None, *, verify: bool = False
) -> dict[str, Any]:
    """What the node says of itself; one that is not ready is asked again for so many seconds.

    Args:
        url: of the node.
        wait_s: how long it may take.
        presence: of its process; None: it is on another machine.
        verify: whether its certificate is checked.
    """
    from connector.base.clock import SystemClock
    from connector.tools.client import NodeClient

    clock = SystemClock()
    deadline_s = clock.monotonic_s() + wait_s
    with faults_named():
        client = NodeClient(url, None, verify=verify)
    while clock.monotonic_s() < deadline_s:
        try:
            body = client.get("/health/ready")
            if body.get("status") in ("ready", "degraded"):
                return body
        except ConnectorError:
            if presence is not None and presence.has_gone():
                break
        time.sleep(0.1)
    return get(url, "/health/ready", None, verify=verify)
