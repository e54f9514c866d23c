"""`settle`: list settlements, record one, have one made, confirm or cancel one."""

import json
import uuid
from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer
from rich.table import Table

from connector.cli.common import DEFAULT_URL, AsJson, Key, Url, fail, faults_named
from connector.tools.terminal import console, plain, table


def settle(
    peer: Annotated[
        Optional[str], typer.Argument(help="Whose settlements; without it, those of all.")
    ] = None,
    incoming: Annotated[
        Optional[int], typer.Option(min=1, metavar="AMOUNT", help="Record: the peer has paid us.")
    ] = None,
    outgoing: Annotated[
        Optional[int], typer.Option(min=1, metavar="AMOUNT", help="Record: we have paid the peer.")
    ] = None,
    pay: Annotated[
        bool,
        typer.Option("--pay", help="Have the peer paid now, all that we owe it or --amount."),
    ] = False,
    amount: Annotated[Optional[int], typer.Option(min=1, help="For --pay.")] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Say that the settlement in progress has been paid.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take the settlement in progress back, unpaid.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel although an engine was asked, and may pay.")
    ] = False,
    scale: Annotated[
        Optional[int],
        typer.Option(min=0, max=255, help="Of the recorded amount; else the asset's."),
    ] = None,
    settlement_id: Annotated[
        str, typer.Option("--id", help="Which settlement; else the one in progress.")
    ] = "",
    idempotency_key: Annotated[
        Optional[str], typer.Option(help="The same key again does nothing; else a new one.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List settlements; record one, have one made, confirm or cancel the one in progress.

    Amounts are in the smallest unit of the peer's asset. Changing something needs ADMIN_API_KEY.
    """
    asked = {
        "--incoming": incoming is not None, "--outgoing": outgoing is not None, "--pay": pay,
        "--confirm": confirm, "--cancel": cancel,
    }  # fmt: skip
    chosen = [name for name, given in asked.items() if given]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} exclude each other")
    if chosen and peer is None:
        raise typer.BadParameter("needs a peer", param_hint=chosen[0])
    path = "/admin/settlements" if peer is None else f"/admin/accounts/{quote(peer)}/settlements"
    if not chosen:
        body = _admin("GET", url, path, key)
        print(json.dumps(body, indent=2)) if as_json else console().print(_settlements(body))
        return
    if confirm or cancel:
        named = settlement_id or _in_progress(_admin("GET", url, path, key), peer or "")
        step = "confirm" if confirm else "cancel"
        done = _admin(
            "POST", url, f"{path}/{quote(named)}/{step}", key,
            {"force": force} if cancel else None,
        )  # fmt: skip
    else:
        order: dict[str, Any] = {"direction": "incoming" if incoming else "outgoing"}
        wanted = amount if pay else incoming or outgoing
        if pay:
            order["execute"] = True
        if wanted is not None:
            order["amount"] = str(wanted)
        if scale is not None:
            order["scale"] = scale
        # Kept over all attempts of this command, so that one whose answer was lost is safe.
        done = _admin("POST", url, path, key, order, idempotency_key or uuid.uuid4().hex)
    if as_json:
        print(json.dumps(done, indent=2))
    else:
        print(
            f"{done['direction']} settlement of {done['amount']} with {done['peerId']}: "
            f"{done['phase']} ({done['settlementId']})"
        )


def _in_progress(body: dict[str, Any], peer: str) -> str:
    for one in body["items"]:
        if one["state"] == "IN_PROGRESS":
            return str(one["settlementId"])
    raise fail(f"no settlement with {peer} is in progress", 1)


def _settlements(body: dict[str, Any]) -> Table:
    rows = table("settlement", "peer", "direction", "amount", "asset", "phase", "paid by", "note")
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
