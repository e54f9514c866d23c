"""What a node says of itself and of its accounts, for the shell scripts: fields between tabs.

Runs inside the node's container (`docker exec -i ID python - <_node.py`), with nothing but the
standard library: so the host needs neither Python nor curl, and the key never leaves the container.

    node     id  address  status  ledger  links  fulfilled
    account  node  peer  asset  debit  credit  net  pending-debits  pending-credits
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

_SECONDS_MAX = 5
# A proxy of the container's surroundings has no business here.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _key() -> str:
    if name := os.environ.get("ADMIN_API_KEY_FILE"):
        return Path(name).read_text("utf-8").strip()
    return os.environ.get("ADMIN_API_KEY", "")


def _get(path: str) -> dict[str, Any]:
    port = os.environ.get("HTTP_PORT") or "8080"
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if key := _key():
        request.add_header("Authorization", f"Bearer {key}")
    with _OPENER.open(request, timeout=_SECONDS_MAX) as response:
        body: dict[str, Any] = json.load(response)
    return body


def lines(status: dict[str, Any], accounts: list[dict[str, Any]]) -> list[str]:
    """The lines, from the answers of `/api/status` and `/api/accounts`."""
    node = status["nodeId"]
    accounting = status["accounting"]
    rows = [
        (
            "node",
            node,
            status["ilpAddress"],
            status["status"],
            f"{accounting['state']} ({accounting['backend']})",
            f"{status['peersConnected']}/{status['peersTotal']}",
            status["packetsFulfilled"],
        )
    ]
    rows += [
        (
            "account",
            node,
            item["peerId"],
            f"{item['assetCode']}/{item['assetScale']}",
            item["debitBalance"],
            item["creditBalance"],
            item["netBalance"],
            item["pendingDebits"],
            item["pendingCredits"],
        )
        for item in accounts
    ]
    return ["\t".join(map(str, row)) for row in rows]


def main() -> None:
    """Print the lines; exit 1 with one line of reason when the node does not answer."""
    try:
        found = lines(_get("/api/status"), _get("/api/accounts")["items"])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"the node does not answer: {error}")
    print("\n".join(found))  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
