"""`received`: what came in for wallets, and telling the webhook again; `payments`: what this node paid."""

import json
from typing import Annotated, Any, Optional
from urllib.parse import quote, urlencode

import typer

from connector.base import limits
from connector.cli.common import DEFAULT_URL, AsJson, Key, Url, Watch, fail, faults_named, get
from connector.cli.show import table_command
from connector.tools.terminal import Fitted, plain, table

_SHOWN = 20


def received(
    wallet: Annotated[
        Optional[str], typer.Argument(help="Of this wallet only; without it, of all.")
    ] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="Only those that the webhook could not be told.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only those that the webhook has yet to be told.")
    ] = False,
    tell: Annotated[
        Optional[str], typer.Option(metavar="ID", help="Tell the webhook of this payment again.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=limits.HTTP_PAGE_ITEMS_MAX, help="How many, latest first.")
    ] = _SHOWN,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Payments that came in for wallets of a node, latest first."""
    if dead and waiting:
        raise typer.BadParameter("--dead and --waiting exclude each other")
    if tell is not None:
        _tell(tell, url, key, as_json)
        return

    def make(body: dict[str, Any]) -> Fitted:
        rows = table(
            "last (UTC)", "id", "wallet", "amount", "asset", "packets", "ended", "webhook",
            text=("webhook",), spare=("packets", "asset", "ended"),
        )  # fmt: skip
        if wallet is not None and not body["items"]:
            _must_be_there(wallet, url, key)
        for item in body["items"]:
            said = item["webhook"]
            if item["webhookFault"]:
                said = f"{said}: {plain(item['webhookFault'])}"
            rows.add_row(
                item["lastAt"][:19].replace("T", " "),
                item["id"],
                item["wallet"],
                item["amount"] + (" or more" if item["atLeast"] else ""),
                f"{item['assetCode']}/{item['assetScale']}",
                str(item["packets"]),
                item["ended"] or "open",
                said,
            )
        return rows

    query: dict[str, Any] = {"limit": count}
    if wallet is not None:
        query["wallet"] = wallet
    if dead or waiting:
        query["webhook"] = "dead" if dead else "waiting"
    path = f"/api/wallets/payments?{urlencode(query)}"
    table_command(path, make, url, key, as_json, watch, "no payments")


def _must_be_there(wallet: str, url: str, key: str | None) -> None:
    """Asked only where there are no payments: a wallet that has gone may have some."""
    if wallet not in (one["wallet"] for one in get(url, "/api/wallets", key)["items"]):
        raise fail(f"no such wallet {plain(wallet)}: `connector wallets` lists them", 2)


def _tell(id_: str, url: str, key: str | None, as_json: bool) -> None:
    from connector.tools.client import NodeClient

    with faults_named():
        path = f"/admin/wallets/payments/{quote(id_, safe='')}/tell"
        answer = NodeClient(url, key).admin("POST", path)
    print(json.dumps(answer) if as_json else "the webhook is told again")


def payments(
    count: Annotated[
        int, typer.Option(min=1, max=limits.HTTP_PAGE_ITEMS_MAX, help="How many, latest first.")
    ] = _SHOWN,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Payments that a node has made (`pay`), latest first."""

    def make(body: dict[str, Any]) -> Fitted:
        rows = table(
            "key", "target", "state", "sent", "delivered", "reason",
            text=("target", "reason"), spare=("key",),
        )  # fmt: skip
        for item in body["items"]:
            got = item["receiverAsset"]
            rows.add_row(
                plain(item["key"]),
                plain(item["target"]),
                item["state"],
                f"{item['sent']} of {item['amount']} {item['asset']}",
                f"{item['delivered']} {plain(got)}" if got else "",
                plain(item["reason"]),
            )
        return rows

    path = f"/api/payments?{urlencode({'limit': count})}"
    table_command(path, make, url, key, as_json, watch, "no payments")
