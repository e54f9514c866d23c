"""`peers`, `limits`, `routes`: what is shown of them, and their changes while the node runs.

Long because each command has its options here, which are its documentation.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Optional
from urllib.parse import quote, urlencode

import typer

from connector.base.clock import SystemClock
from connector.cli import ask, show
from connector.cli.ask import DryRun, Yes
from connector.cli.common import (
    DEFAULT_URL,
    AsJson,
    Key,
    Url,
    Watch,
    fail,
    faults_named,
    get,
    seconds_in,
)
from connector.cli.usage import Commands
from connector.tools.terminal import console, plain, table

PeerName = Annotated[str, typer.Argument(metavar="PEER", help="Its id.")]
SECRET_OCTETS: Final = 24

peers_app = typer.Typer(cls=Commands, help="Peers and their links; without a verb a table of them.")
routes_app = typer.Typer(cls=Commands, help="Routes; without a verb the routing table.")


def _group(
    context: typer.Context, shown: Any, url: str, key: str | None, as_json: bool, watch: bool
) -> None:
    """Show the table where no verb follows; options belong behind the verb."""
    if context.invoked_subcommand is None:
        shown(url, key, as_json, watch)
        return
    typed = [
        name
        for name in ("url", "key", "as_json", "watch")
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if typed:
        name = {"as_json": "json"}.get(typed[0], typed[0])
        raise typer.BadParameter(
            f"belongs behind `{context.invoked_subcommand}`", param_hint=f"--{name}"
        )


@peers_app.callback(invoke_without_command=True)
def peers(
    context: typer.Context, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False,
    watch: Watch = False,
) -> None:  # fmt: skip
    """Peers and their links; with a verb, change them while the node runs (needs ADMIN_API_KEY)."""
    _group(context, show.peers, url, key, as_json, watch)


@routes_app.callback(invoke_without_command=True)
def routes(
    context: typer.Context, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False,
    watch: Watch = False,
) -> None:  # fmt: skip
    """The routing table (the first 1000 routes); with a verb, change the static routes."""
    _group(context, show.routes, url, key, as_json, watch)


# --- what is given


def _secret(secret_file: Path | None, new: bool) -> tuple[str | None, bool]:
    """The secret to use, and whether it was made here. Never an argument: others see those."""
    if secret_file is not None and new:
        raise typer.BadParameter("exclude each other", param_hint="--secret-file and --new-secret")
    if new:
        return secrets.token_urlsafe(SECRET_OCTETS), True
    if secret_file is None:
        return None, False
    try:
        text = sys.stdin.read() if str(secret_file) == "-" else secret_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise fail(f"{secret_file} cannot be read: {reason}", 2) from None
    if not text.strip():
        raise fail(f"{secret_file} is empty", 2)
    return text.strip(), False


SecretFile = Annotated[
    Optional[Path],
    typer.Option("--secret-file", metavar="FILE", help="Shared secret, from a file; - is stdin."),
]
NewSecret = Annotated[
    bool, typer.Option("--new-secret", help="Make a random secret, and print it once at the end.")
]
Dial = Annotated[
    Optional[str],
    typer.Option("--dial", metavar="WS_URL", help="Where it is dialled; else it dials this node."),
]
Relation = Annotated[Optional[str], typer.Option(help="peer, parent or child.")]
Code = Annotated[Optional[str], typer.Option("--asset-code", help="Else the node's.")]
Scale = Annotated[Optional[int], typer.Option("--asset-scale", min=0, max=255)]
Prefixes = Annotated[
    Optional[list[str]],
    typer.Option("--route", metavar="PREFIX", help="Reached through it; may be repeated."),
]
Fee = Annotated[Optional[int], typer.Option("--fee-basis-points", min=0, max=10_000)]
More = Annotated[
    Optional[list[str]],
    typer.Option(
        "--set", metavar="NAME=VALUE",
        help="Any other setting, by its name in YAML; VALUE is JSON or text. May be repeated.",
    ),
]  # fmt: skip
Money = Annotated[
    Optional[str],
    typer.Option(
        metavar="AMOUNT",
        help="Smallest units, or 1.25USD; `default` for the default.",
        callback=ask.amount_form,
    ),
]
_LIMITS: Final = {
    "creditLimit": "it may owe us",
    "maxPayable": "we may owe it",
    "maxPacketAmount": "largest packet taken from it",
    "maxInFlightValue": "may be in flight at a time",
    "rateLimit": "packets per second taken from it",
    "throughputIn": "value taken from it per window",
    "throughputOut": "value sent to it per window",
    "throughputWindowSeconds": "the window, seconds",
    "settleThreshold": "settle when we owe it more than",
    "settleTo": "and owe it then still",
    "maxPrepaid": "it may pay in advance by its engine",
}
_NUMBERS: Final = ("rateLimit", "throughputWindowSeconds")


def _more(given: list[str] | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for one in given or ():
        name, mark, value = one.partition("=")
        if not mark or not name:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE", param_hint="--set")
        if name.lower().replace("_", "").endswith(("secret", "secretformer", "token")):
            raise typer.BadParameter(
                "a secret is no argument: other users of the machine see it; use --secret-file, or "
                "the admin API", param_hint=f"--set {name}",
            )  # fmt: skip
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    return fields


def _in_units(text: str, code: str, scale: int) -> str | None:
    from connector.tools.amounts import units_of

    if text == "default":
        return None
    with faults_named():
        return str(units_of(text, code, scale))


def _asset(url: str, key: str | None, code: str | None, scale: int | None) -> tuple[str, int]:
    """The asset of a new peer: what is not given is the node's."""
    if code is not None and scale is not None:
        return code, scale
    status = get(url, "/api/status", key)
    return code or status["assetCode"], status["assetScale"] if scale is None else scale


# --- verbs of `peers`


@peers_app.command("show")
def show_peer(
    peer: PeerName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """The settings in effect of one peer, without its secrets, and its account."""
    body = ask.admin("GET", url, f"/admin/peers/{quote(peer, safe='')}", key)
    if as_json:
        print(json.dumps(body, indent=2))
        return
    rows = table("setting", "value", "changed here", text=("value",), title=plain(peer))
    changed = set(body["changed"])
    for name, value in body.items():
        if name in ("changed", "id") or value in (None, [], ""):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if name in _LIMITS and name not in _NUMBERS:
            text = _shown(int(value), body)
        rows.add_row(plain(name), plain(text), "yes" if name in changed else "")
    console().print(rows)


def _shown(units: int, peer: dict[str, Any]) -> str:
    from connector.tools.amounts import in_asset

    return in_asset(units, peer["assetCode"], peer["assetScale"])


@peers_app.command()
def add(
    peer: PeerName, secret_file: SecretFile = None, new_secret: NewSecret = False,
    dial: Dial = None, relation: Relation = None, asset_code: Code = None,
    asset_scale: Scale = None, credit_limit: Money = None, max_payable: Money = None,
    settle_threshold: Money = None, route: Prefixes = None, fee_basis_points: Fee = None,
    more: More = None, yes: Yes = False, dry_run: DryRun = False, url: Url = DEFAULT_URL,
    key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Add a peer. It is linked at once, and stays after a restart."""
    others = _more(more)
    secret, made = _secret(secret_file, new_secret)
    if secret is None:
        raise fail("a peer needs a secret: --secret-file FILE, or --new-secret", 2)
    fields: dict[str, Any] = {"id": peer, "secret": secret, **others}
    plain_fields = {
        "url": dial, "relation": relation, "assetCode": asset_code, "assetScale": asset_scale,
        "feeBasisPoints": fee_basis_points, "routes": route or None,
    }  # fmt: skip
    fields |= {name: value for name, value in plain_fields.items() if value is not None}
    amounts = {
        "creditLimit": credit_limit, "maxPayable": max_payable, "settleThreshold": settle_threshold,
    }  # fmt: skip
    for name, text in amounts.items():
        if text is None or text == "default":
            continue
        if text.isdecimal():
            fields[name] = text
        else:
            fields[name] = _in_units(text, *_asset(url, key, asset_code, asset_scale))
    ask.change(
        "POST", url, "/admin/peers", key, fields, yes=yes, dry_run=dry_run, as_json=as_json,
        done=f"peer {peer} was added", before=_saying(secret, made, peer),
    )  # fmt: skip


def _saying(secret: str, made: bool, peer: str) -> Callable[[], None]:
    """Says a secret that was made here, before it is used: it must not be lost with the node's answer.

    On stderr, so that what a program reads of stdout holds no secret.
    """

    def say() -> None:
        if made:
            print(f"the secret to give to {peer}, shown only now: {secret}", file=sys.stderr)

    return say


@peers_app.command()
def edit(
    peer: PeerName, secret_file: SecretFile = None, dial: Dial = None, relation: Relation = None,
    route: Prefixes = None, fee_basis_points: Fee = None, more: More = None, yes: Yes = False,
    dry_run: DryRun = False, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Change settings of a peer; what is not named stays. Amounts: see `limits`."""
    secret, _ = _secret(secret_file, False)
    given = {
        "secret": secret, "url": dial, "relation": relation, "feeBasisPoints": fee_basis_points,
        "routes": route or None,
    }  # fmt: skip
    fields = {name: value for name, value in given.items() if value is not None} | _more(more)
    if not fields:
        raise fail("nothing to change is named: see --help", 2)
    _patch(peer, fields, f"peer {peer} was changed", yes, dry_run, url, key, as_json)


def _patch(
    peer: str, fields: dict[str, Any], done: str, yes: bool, dry_run: bool, url: str,
    key: str | None, as_json: bool, before: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    path = f"/admin/peers/{quote(peer, safe='')}"
    ask.change(
        "PATCH", url, path, key, fields, yes=yes, dry_run=dry_run, as_json=as_json, done=done,
        before=before,
    )  # fmt: skip


@peers_app.command()
def disable(
    peer: PeerName, yes: Yes = False, dry_run: DryRun = False, url: Url = DEFAULT_URL,
    key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Take no new packets from a peer (T03) and route none to it; its link and its account stay."""
    _patch(peer, {"enabled": False}, f"peer {peer} is disabled: `peers enable {peer}` undoes it",
           yes, dry_run, url, key, as_json)  # fmt: skip


@peers_app.command()
def enable(
    peer: PeerName, yes: Yes = False, dry_run: DryRun = False, url: Url = DEFAULT_URL,
    key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Undo `disable` and `drain`."""
    _patch(peer, {"enabled": True}, f"peer {peer} is enabled", yes, dry_run, url, key, as_json)


@peers_app.command()
def drain(
    peer: PeerName,
    wait: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait for packets under way.")
    ] = 60.0,
    yes: Yes = False, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Disable a peer, and wait until none of its packets is under way; exit 1 if some still are.

    For maintenance at its side. `peers enable` undoes it; `peers remove` drains by itself.
    """
    path = f"/admin/peers/{quote(peer, safe='')}"
    fields = {"enabled": False}
    preview = ask.admin("PATCH", url, f"{path}?preview=true", key, fields)
    if not as_json:
        for effect in preview["effects"]:
            console().print(f"- {plain(effect)}", highlight=False)
    if preview["changes"]:
        ask.confirmed("Do it?", yes=yes)
        ask.admin("PATCH", url, f"{path}?shown={preview['shown']}", key, fields)
    clock = SystemClock()
    ends_s = clock.monotonic_s() + wait
    while True:
        items = get(url, "/api/peers", key)["items"]
        left = sum(one["inFlight"] + one["inFlightOut"] for one in items if one["peerId"] == peer)
        if not left or clock.monotonic_s() >= ends_s:
            break
        time.sleep(_LOOK_SECONDS)
    if as_json:
        print(json.dumps({"preview": preview, "drained": not left, "inFlight": left}, indent=2))
    elif not left:
        print(f"peer {peer} is drained: no packet of it is under way")
    if left:
        raise fail(f"{left} packets of {peer} are still under way; it stays disabled", 1)


_LOOK_SECONDS: Final = 0.1


@peers_app.command()
def remove(
    peer: PeerName,
    force: Annotated[
        bool, typer.Option("--force", help="Do not wait for packets under way: they may be lost.")
    ] = False,
    yes: Yes = False, dry_run: DryRun = False, url: Url = DEFAULT_URL, key: Key = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Drain a peer and remove it. Its account stays until it is even."""
    query = "?force=true" if force else ""
    ask.change(
        "DELETE", url, f"/admin/peers/{quote(peer, safe='')}{query}", key, yes=yes,
        dry_run=dry_run, as_json=as_json, done=f"peer {peer} was removed",
    )  # fmt: skip


@peers_app.command("rotate-secret")
def rotate_secret(
    peer: PeerName, secret_file: SecretFile = None, new_secret: NewSecret = False,
    grace: Annotated[
        Optional[str],
        typer.Option(
            metavar="TIME", help="For so long the secret before serves too, such as 24h or 7d."
        ),
    ] = None,
    yes: Yes = False, dry_run: DryRun = False, url: Url = DEFAULT_URL, key: Key = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Give a peer another secret; with --grace its link stays up while both sides change.

    Without --grace its link is down until both sides use the new one.
    """
    seconds = 0 if grace is None else seconds_in(grace)
    if seconds is None:
        raise typer.BadParameter("must be a time such as 30m, 24h or 7d", param_hint="--grace")
    secret, made = _secret(secret_file, new_secret)
    if secret is None:
        raise fail("which secret: --secret-file FILE, or --new-secret", 2)
    ask.change(
        "POST", url, f"/admin/peers/{quote(peer, safe='')}/rotate-secret", key,
        {"secret": secret, "graceSeconds": seconds}, yes=yes, dry_run=dry_run, as_json=as_json,
        done=f"peer {peer} has a new secret"
        + (f"; `peers end-grace {peer}` ends the one before" if seconds else ""),
        before=_saying(secret, made, peer),
    )  # fmt: skip


@peers_app.command("end-grace")
def end_grace(
    peer: PeerName, yes: Yes = False, dry_run: DryRun = False, url: Url = DEFAULT_URL,
    key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """End the former secret of a peer now: links that were logged in with it are closed."""
    _patch(peer, {"secretFormer": None, "secretFormerUntil": None},
           f"the former secret of {peer} serves no more", yes, dry_run, url, key, as_json)  # fmt: skip


@peers_app.command()
def reconnect(
    peer: PeerName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """Close the link of a peer, and dial it at once where this node dials it."""
    ask.admin("POST", url, f"/admin/peers/{quote(peer, safe='')}/reconnect", key)
    if as_json:
        print(json.dumps({"done": True}))
    else:
        print(f"the link of {peer} is opened anew: `peers` shows whether it is up")


@peers_app.command()
def expect(
    peer: PeerName,
    offline: Annotated[
        bool, typer.Option("--offline/--online", help="Whether it may be away without an alarm.")
    ] = True,
    yes: Yes = False, dry_run: DryRun = False, url: Url = DEFAULT_URL, key: Key = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say that a peer may be offline, so that its missing link is no alarm; --online undoes it."""
    words = "may be offline" if offline else "is expected to be online"
    _patch(peer, {"offlineExpected": offline}, f"peer {peer} {words}", yes, dry_run, url, key,
           as_json)  # fmt: skip


# --- limits


def limits(
    peer: PeerName, credit_limit: Money = None, max_payable: Money = None,
    max_packet_amount: Money = None, max_in_flight_value: Money = None,
    rate_limit: Annotated[
        Optional[str], typer.Option(metavar="N", help="Packets per second, or `default`.")
    ] = None,
    throughput_in: Money = None, throughput_out: Money = None,
    throughput_window_seconds: Annotated[Optional[int], typer.Option(min=1)] = None,
    settle_threshold: Money = None, settle_to: Money = None, max_prepaid: Money = None,
    yes: Yes = False, dry_run: DryRun = False, url: Url = DEFAULT_URL, key: Key = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """The limits of a peer; with options, change them. Links and packets under way are not touched."""
    path = f"/admin/peers/{quote(peer, safe='')}"
    there = ask.admin("GET", url, path, key)
    given = {
        "creditLimit": credit_limit, "maxPayable": max_payable,
        "maxPacketAmount": max_packet_amount, "maxInFlightValue": max_in_flight_value,
        "throughputIn": throughput_in, "throughputOut": throughput_out,
        "settleThreshold": settle_threshold, "settleTo": settle_to, "maxPrepaid": max_prepaid,
    }  # fmt: skip
    fields: dict[str, Any] = {
        name: _in_units(text, there["assetCode"], there["assetScale"])
        for name, text in given.items()
        if text is not None
    }
    if fields.get("settleTo", "") is None:
        fields["settleTo"] = "0"
    if rate_limit is not None:
        if rate_limit != "default" and not rate_limit.isdecimal():
            raise typer.BadParameter("must be a number, or `default`", param_hint="--rate-limit")
        fields["rateLimit"] = None if rate_limit == "default" else int(rate_limit)
    if throughput_window_seconds is not None:
        fields["throughputWindowSeconds"] = throughput_window_seconds
    if fields:
        ask.change(
            "PUT", url, f"{path}/limits", key, fields, yes=yes, dry_run=dry_run, as_json=as_json,
            done=f"the limits of {peer} were changed",
        )  # fmt: skip
        return
    if as_json:
        shown = {name: there[name] for name in ("id", "assetCode", "assetScale", *_LIMITS)}
        print(json.dumps(shown, indent=2))
        return
    rows = table("limit", "value", "meaning", text=("meaning",), spare=("meaning",),
                 title=plain(peer))  # fmt: skip
    for name, meaning in _LIMITS.items():
        value = there[name]
        if value is None:
            text = "never" if name == "settleThreshold" else "no limit"
        else:
            text = str(value) if name in _NUMBERS else _shown(int(value), there)
        rows.add_row(name, text, meaning)
    console().print(rows)


# --- verbs of `routes`

Prefix = Annotated[str, typer.Argument(metavar="PREFIX", help="`default` is the default route.")]


def _route(prefix: str, next_hop: str) -> dict[str, str]:
    return {"prefix": "" if prefix == "default" else prefix, "nextHop": next_hop}


@routes_app.command("add")
def add_route(
    prefix: Prefix, peer: PeerName, yes: Yes = False, dry_run: DryRun = False,
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Send what goes to PREFIX, and below it, to PEER. It stays after a restart."""
    ask.change(
        "POST", url, "/admin/routes", key, _route(prefix, peer), yes=yes, dry_run=dry_run,
        as_json=as_json, done=f"the route to {prefix} by {peer} was added",
    )  # fmt: skip


@routes_app.command("remove")
def remove_route(
    prefix: Prefix, peer: PeerName, yes: Yes = False, dry_run: DryRun = False,
    url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Remove a static route; those in a peer's own settings: `peers edit PEER --route`."""
    ask.change(
        "DELETE", url, f"/admin/routes?{urlencode(_route(prefix, peer))}", key, yes=yes,
        dry_run=dry_run, as_json=as_json, done=f"the route to {prefix} by {peer} was removed",
    )  # fmt: skip
