"""A neighbour that has many routes: `python benchmarks/teller.py ws://HOST:PORT USER TOKEN COUNT`.

It logs in over BTP and announces so many routes (CCP), as many in a request as fit and the next one when the last is answered: without the
150 ms that neighbours leave between updates, so that what is measured is the node that learns. One line of JSON says how long that took; then it
stays, with an empty update every ten seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from connector.ilp.packet import Fulfill, encode
from connector.routing import bounds
from connector.routing.codec import UPDATE, Announcement, RouteUpdate, encode_update, request
from connector.tools.plain_btp import PlainBtp, connected

SPEAKER = "g.teller"
ROUTES_PER_UPDATE = 400
SECONDS_MAX = 20.0
REFRESH_SECONDS = 10.0


async def told(btp: PlainBtp, update: RouteUpdate) -> None:
    """Tell it, and be sure that it was taken."""
    expires_at_ms = time.time_ns() // 1_000_000 + bounds.REQUEST_EXPIRY_MS
    packet = encode(request(UPDATE, encode_update(update), expires_at_ms))
    answer = await btp.ask_ilp(packet, SECONDS_MAX)
    if not isinstance(answer, Fulfill):
        raise SystemExit(f"an update was not taken: {answer}")


async def tell(url: str, user: str, token: str, count: int) -> None:
    """See the module."""
    table_id = os.urandom(16)
    async with connected(url, seconds_max=SECONDS_MAX) as btp:
        btp.on_prepare = lambda _ilp: encode(Fulfill(fulfillment=bytes(32)))
        await btp.log_in(user, token, SECONDS_MAX)
        epochs = -(-count // ROUTES_PER_UPDATE)
        began_s = time.perf_counter()
        for epoch in range(epochs):
            first = epoch * ROUTES_PER_UPDATE
            new = tuple(
                Announcement(prefix=f"g.far.r{number}", path=(SPEAKER,), auth=os.urandom(32))
                for number in range(first, min(count, first + ROUTES_PER_UPDATE))
            )
            await told(btp, _update(table_id, epochs, epoch, epoch + 1, new))
        print(json.dumps({"told_seconds": time.perf_counter() - began_s}), flush=True)
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await told(btp, _update(table_id, epochs, epochs, epochs, ()))


def _update(
    table_id: bytes, current: int, first: int, last: int, new: tuple[Announcement, ...]
) -> RouteUpdate:
    return RouteUpdate(
        table_id=table_id, current_epoch=current, from_epoch=first, to_epoch=last,
        hold_down_ms=45_000, speaker=SPEAKER, new=new,
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(tell(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
