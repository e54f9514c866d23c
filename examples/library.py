"""Two connectors in one program: Alice pays Bob's shop, and both print what they owe each other.

python examples/library.py
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path

from connector import Connector, Fulfill, PeerSettings, Prepare, Reject, Settings

PRICE = 250
SECRET = "known-to-alice-and-bob"  # noqa: S105 - both are in this program
ORDER = b"one coffee, please"
PROOF = hashlib.sha256(b"only the shop and its customer know this" + ORDER).digest()


async def shop(prepare: Prepare) -> Fulfill | Reject:
    """Bob's shop: gives the proof of payment, if the price is right."""
    if prepare.amount < PRICE:
        return Reject(code="F99", triggered_by="g.bob.shop", message=f"a coffee is {PRICE}")
    return Fulfill(fulfillment=PROOF, data=b"enjoy!")


def print_balance(node: Connector, peer_id: str) -> None:
    """What stands in the books of `node` about a peer."""
    net = node.accounts.peers[peer_id].net_balance
    says = f"{peer_id} owes me {net}" if net >= 0 else f"I owe {peer_id} {-net}"
    print(f"{node.settings.node_id}: {says}")


async def main(folder: Path) -> None:
    """Start both, pay, and look into the books."""
    bob_settings = Settings(
        node_id="bob",
        ilp_address="g.bob",
        btp_server_port=0,  # a free one
        http_port=0,
        data_dir=folder / "bob",
        log_level="warning",
        peers=[PeerSettings(id="alice", secret=SECRET, credit_limit=1000)],
    )
    async with Connector(bob_settings) as bob:
        bob.on_prepare(shop)
        alice_settings = Settings(
            node_id="alice",
            ilp_address="g.alice",
            btp_server_port=0,
            http_port=0,
            data_dir=folder / "alice",
            log_level="warning",
            peers=[
                PeerSettings(
                    id="bob",
                    secret=SECRET,
                    url=f"ws://127.0.0.1:{bob.btp_port}",
                    routes=["g.bob"],
                )
            ],
        )
        async with Connector(alice_settings) as alice:
            while "bob" not in alice.links.live:
                await asyncio.sleep(0.01)
            for amount in (100, PRICE):
                answer = await alice.send("g.bob.shop", amount, fulfillment=PROOF, data=ORDER)
                match answer:
                    case Fulfill(data=data):
                        print(f"paid {amount}: {data.decode()}")
                    case Reject(code=code, message=message):
                        print(f"{amount} refused: {code} {message}")
            print_balance(alice, "bob")
            print_balance(bob, "alice")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
