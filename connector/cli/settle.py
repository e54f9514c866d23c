"""`settle`: list settlements, record one, have one made, confirm, cancel, accept or decline one."""

import contextlib
import json
import sys
import time
import uuid
from typing import Annotated, Any, Final, Optional
from urllib.parse import quote

import typer

from connector.base.errors import ConnectorError, OperatorError, UnknownNameError
from connector.cli.ask import amount_form, confirmed
from connector.cli.common import DEFAULT_URL, AsJson, Key, Url, as_called, fail, faults_named
from connector.tools.amounts import in_asset
from connector.tools.terminal import Fitted, console, plain, table


def settle(
    peer: Annotated[
        Optional[str], typer.Argument(help="Whose settlements; without it, those of all.")
    ] = None,
    incoming: Annotated[
        Optional[str],
        typer.Option(metavar="AMOUNT", help="Record: the peer has paid us.", callback=amount_form),
    ] = None,
    outgoing: Annotated[
        Optional[str],
        typer.Option(metavar="AMOUNT", help="Record: we have paid the peer.", callback=amount_form),
    ] = None,
    pay: Annotated[
        bool,
        typer.Option("--pay", help="Have the peer paid now, all that we owe it or --amount."),
    ] = False,
    amount: Annotated[
        Optional[str], typer.Option(metavar="AMOUNT", help="For --pay.", callback=amount_form)
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Say that the settlement in progress has been paid.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take the settlement in progress back, unpaid.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel although an engine was asked, and may pay.")
    ] = False,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Credit the payment of the peer that waits for an operator."),
    ] = False,
    decline: Annotated[
        bool, typer.Option("--decline", help="Do not credit it: it was not received.")
    ] = False,
    scale: Annotated[
        Optional[int],
        typer.Option(min=0, max=255, help="Of the recorded amount; else the asset's."),
    ] = None,
    settlement_id: Annotated[
        str, typer.Option("--id", help="Which settlement; else the only one that it can be.")
    ] = "",
    idempotency_key: Annotated[
        Optional[str], typer.Option(help="The same key again does nothing; else a new one.")
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Do not ask, also where more was paid than was owed."),
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List settlements; record one, have one made, confirm or cancel the one in progress.

    A payment that an engine reports beyond what it may vouch for waits: accept or decline it.

    Amounts are in the smallest unit of the peer's asset, or in the asset: 1.25USD. On a terminal what
    will happen is shown and asked first. Changing something needs ADMIN_API_KEY.
    """
    asked = {
        "--incoming": incoming is not None, "--outgoing": outgoing is not None, "--pay": pay,
        "--confirm": confirm, "--cancel": cancel, "--accept": accept, "--decline": decline,
    }  # fmt: skip
    chosen = [name for name, given in asked.items() if given]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} exclude each other")
    if chosen and not peer:
        raise typer.BadParameter("needs a peer", param_hint=chosen[0])
    _check_belonging(
        chosen,
        {
            "--amount": amount is not None, "--force": force, "--scale": scale is not None,
            "--id": bool(settlement_id), "--idempotency-key": idempotency_key is not None,
            "--yes": yes,
        },
    )  # fmt: skip
    path = "/admin/settlements" if peer is None else f"/admin/accounts/{quote(peer)}/settlements"
    if not chosen:
        body = _admin("GET", url, path, key)
        if as_json:
            print(json.dumps(body, indent=2))
        else:
            console().print(_settlements(body) if body["items"] else "no settlements")
        return
    step = next((name[2:] for name in chosen if name in _STEPS), "")
    if step:
        query = "?phase=waiting" if step in ("accept", "decline") else ""
        items = _admin("GET", url, path + query, key)
        named = settlement_id or _only_one(items, peer or "", step)
        if not yes:
            _ask_on_terminal(_step_in_words(items, named, step))
        done = _admin(
            "POST", url, f"{path}/{quote(named)}/{step}", key,
            {"force": force} if cancel else None,
        )  # fmt: skip
    else:
        order: dict[str, Any] = {"direction": "incoming" if incoming else "outgoing"}
        wanted, scale = _wanted(
            url, key, peer or "", amount if pay else incoming or outgoing, scale
        )
        if pay:
            order["execute"] = True
        if wanted is not None:
            order["amount"] = str(wanted)
        if scale is not None:
            order["scale"] = scale
        if not yes:
            if pay:
                _ask_on_terminal(_payment_in_words(url, key, peer or "", wanted))
            else:
                _ask_before_overpaying(
                    url, key, peer or "", wanted if incoming else None,
                    wanted if outgoing else None, scale,
                )  # fmt: skip
        # Kept over all attempts of this command, so that one whose answer was lost is safe.
        done = _admin("POST", url, path, key, order, idempotency_key or uuid.uuid4().hex)
        if pay:
            done = _once_booked(url, path, key, done)
    if as_json:
        print(json.dumps(done, indent=2))
    else:
        print(
            f"{done['direction']} settlement of {done['amount']} with {done['peerId']}: "
            f"{done['phase']} ({done['settlementId']})"
        )
        _print_next(url, key, done)


def _once_booked(url: str, path: str, key: str | None, decided: dict[str, Any]) -> dict[str, Any]:
    """A settlement that was decided on, when the ledger has booked it; else as it is after LOOKS."""
    now = decided
    for _ in range(_LOOKS):
        if now["phase"] != "pending":
            break
        time.sleep(_LOOK_SECONDS)
        items = _admin("GET", url, path, key)["items"]
        now = next((one for one in items if one["settlementId"] == now["settlementId"]), now)
    return now


_LOOKS: Final = 40
_LOOK_SECONDS: Final = 0.05
_BELONG: Final = {
    "--amount": ("--pay",),
    "--force": ("--cancel",),
    "--scale": ("--incoming", "--outgoing"),
    "--id": ("--confirm", "--cancel", "--accept", "--decline"),
    "--idempotency-key": ("--incoming", "--outgoing", "--pay"),
    "--yes": (
        "--incoming",
        "--outgoing",
        "--pay",
        "--confirm",
        "--cancel",
        "--accept",
        "--decline",
    ),
}
"""Which option means something only with one of which others."""
_STEPS: Final = {
    "--confirm": ("state", "IN_PROGRESS", "in progress"),
    "--cancel": ("state", "IN_PROGRESS", "in progress"),
    "--accept": ("phase", "waiting", "waiting for an operator"),
    "--decline": ("phase", "waiting", "waiting for an operator"),
}
"""Steps of a settlement that is there: by which field and value it is found, and in words."""


def _check_belonging(chosen: list[str], given: dict[str, bool]) -> None:
    assert given.keys() == _BELONG.keys()
    for name, is_given in given.items():
        if is_given and not set(chosen) & set(_BELONG[name]):
            raise typer.BadParameter(f"needs {' or '.join(_BELONG[name])}", param_hint=name)


def _account(url: str, key: str | None, peer: str) -> dict[str, Any] | None:
    """The account with a peer; None: it is even with a peer that has been removed, or there is none."""
    from connector.tools.client import NodeClient

    items = NodeClient(url, key).get("/api/accounts")["items"]
    return next((item for item in items if item["peerId"] == peer), None)


def _ask_before_overpaying(
    url: str, key: str | None, peer: str, incoming: int | None, outgoing: int | None,
    scale: int | None,
) -> None:  # fmt: skip
    """Ask for a payment that would turn a debt into one of the other side: an amount mistyped, most often."""
    with faults_named():
        account = _account(url, key, peer)
    if account is None:
        return  # the node says what is wrong
    net, paid = int(account["netBalance"]), incoming or -(outgoing or 0)
    asset_scale = account["assetScale"]
    if scale is not None:
        # Rounded towards zero, as the node does: what is less than a unit is kept, not booked.
        digits = asset_scale - scale
        size = abs(paid) * 10**digits if digits >= 0 else abs(paid) // 10**-digits
        paid = size if paid > 0 else -size
    after = net - paid
    if net * after >= 0:
        return
    said = f"balance with {peer}: {_in_words(net)}; after this: {_in_words(after)}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise fail(f"{said}. Nothing was recorded; if it is right, pass --yes", 2)
    print(f"{said}. Record it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise fail("nothing was recorded", 1)


def _wanted(
    url: str, key: str | None, peer: str, text: str | None, scale: int | None
) -> tuple[int | None, int | None]:
    """An amount as it was typed, in units of the scale that is returned with it.

    Raises:
        typer.Exit: it is none.
    """
    from connector.tools.amounts import units_of

    if text is None:
        return None, scale
    with faults_named():
        if text.isdecimal():
            units = units_of(text, "", 0)
        else:
            account = _account(url, key, peer)
            if account is None:
                raise UnknownNameError("there is no such peer")
            if scale is not None:
                raise OperatorError("--scale goes with an amount in smallest units only")
            units = units_of(text, account["assetCode"], account["assetScale"])
    if units < 1:
        raise fail("an amount is at least 1 smallest unit", 2)
    return units, scale


def _ask_on_terminal(said: str) -> None:
    """Ask where somebody can answer; elsewhere the command was meant as it stands."""
    if sys.stdin is None or not sys.stdin.isatty():
        return
    print(said, file=sys.stderr)
    confirmed("Do it?", yes=False)


def _step_in_words(body: dict[str, Any], settlement_id: str, step: str) -> str:
    """What a step does with the settlement that it is for."""
    found = [one for one in body["items"] if one["settlementId"] == settlement_id]
    if not found:
        return f"{step} settlement {settlement_id}"
    one = found[0]
    money = in_asset(int(one["amount"]), one["assetCode"], one["assetScale"])
    peer = one["peerId"]
    return {
        "confirm": f"{money} to {peer} is noted as paid: it was booked when it was asked for",
        "cancel": f"{money} to {peer} will not be paid: it is booked back, and owed again",
        "accept": f"{money} that {peer}'s engine reports is credited to {peer}",
        "decline": f"{money} that {peer}'s engine reports is not credited",
    }[step]


def _payment_in_words(url: str, key: str | None, peer: str, wanted: int | None) -> str:
    with faults_named():
        account = _account(url, key, peer)
    if account is None:
        return f"{peer} is paid"
    code, scale = account["assetCode"], account["assetScale"]
    what = "all that we owe it above settleTo" if wanted is None else in_asset(wanted, code, scale)
    return f"{peer} is paid {what}, now; {_in_words(int(account['netBalance']))} of {code}/{scale}"


def _in_words(net: int) -> str:
    if net == 0:
        return "even"
    return f"owes us {net}" if net > 0 else f"we owe {-net}"


def _print_next(url: str, key: str | None, done: dict[str, Any]) -> None:
    """The balance now, or what an operator has to do next."""
    peer = done["peerId"]
    if done["phase"] == "pending":
        print(f"it is not booked yet: pay nothing before `{as_called()} settle {peer}` says so")
    elif done["payer"] == "operator" and done["phase"] == "booked":
        print(
            f"now pay {peer} {done['amount']} {done['assetCode']}/{done['assetScale']}, then: "
            f"{as_called()} settle {peer} --confirm (or --cancel, if it is not paid)"
        )
    elif done["phase"] in ("completed", "cancelled", "declined"):
        # What was asked for is done: an answer that does not come now must not look as if it were not.
        with contextlib.suppress(ConnectorError):
            account = _account(url, key, peer)
            if account is not None:
                print(f"balance with {peer}: {_in_words(int(account['netBalance']))}")


def _only_one(body: dict[str, Any], peer: str, step: str) -> str:
    """The id of the settlement that a step is for, when there is one only."""
    field, value, words = _STEPS[f"--{step}"]
    found = [str(one["settlementId"]) for one in body["items"] if one[field] == value]
    if not found:
        raise fail(f"no settlement with {peer} is {words}", 1)
    if len(found) > 1:
        raise fail(f"{len(found)} settlements with {peer} are {words}: name one with --id", 1)
    return found[0]


def _settlements(body: dict[str, Any]) -> Fitted:
    rows = table(
        "settlement", "peer", "direction", "amount", "asset", "phase", "paid by", "note",
        text=("note",), spare=("paid by", "asset", "note"),
    )  # fmt: skip
    for one in body["items"]:
        rows.add_row(
            one["settlementId"], one["peerId"], one["direction"], one["amount"],
            f"{one['assetCode']}/{one['assetScale']}", one["phase"],
            "" if one["payer"] == "nobody" else one["payer"], plain(one["error"]),
        )  # fmt: skip
    return rows


def _admin(
    method: str, url: str, path: str, key: str | None, body: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    from connector.tools.client import NodeClient

    with faults_named():
        return NodeClient(url, key).admin(method, path, body, idempotency_key)
