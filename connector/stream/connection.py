"""What is known of a payer's connection, and what a packet of it changes (RFC 29). Pure."""

from __future__ import annotations

from typing import Final

from connector.stream import bounds
from connector.stream.crypto import Keys
from connector.stream.packet import (
    UINT_MAX,
    CloseCode,
    ConnectionClose,
    ConnectionDataBlocked,
    ConnectionMaxData,
    Frame,
    StreamClose,
    StreamData,
    StreamDataBlocked,
    StreamMaxData,
    StreamMaxMoney,
    StreamMoney,
    StreamMoneyBlocked,
    StreamPacket,
)

_NAMES_STREAM: Final = (
    StreamClose,
    StreamMoney,
    StreamMaxMoney,
    StreamMoneyBlocked,
    StreamData,
    StreamMaxData,
    StreamDataBlocked,
)


class Connection:
    """What is known of one payer's connection."""

    __slots__ = (
        "close",
        "closed_bits",
        "data_max",
        "has_paid",
        "is_new",
        "keys",
        "stream_id_max",
        "streams",
        "token",
        "wallet",
    )

    def __init__(self, token: str, wallet: str, secret: bytes) -> None:
        self.token = token
        """The last segment of its address."""
        self.wallet = wallet
        self.keys = Keys(secret)
        self.streams: dict[int, int] = {}
        """What each stream has received since this process met the connection."""
        self.closed_bits = 0
        """The streams that are closed, a bit for each odd id: a set of them would take a hundred times as much."""
        self.stream_id_max = bounds.STREAM_ID_FIRST_MAX
        """The highest stream id that the payer may use; never lowered."""
        self.close: ConnectionClose | None = None
        """Why it is closed; None: it is open."""
        self.data_max = 0
        """How many octets of data its payer was told that it may send; never lowered. Zero: nothing."""
        self.has_paid = False
        """Whether it has brought money: addresses are free, so little is kept of others."""
        self.is_new = True
        """Whether this process has seen none of its packets."""


class Arrival:
    """A packet that is to be fulfilled once its money is held."""

    __slots__ = ("amount", "connection", "data", "packet")

    def __init__(
        self, connection: Connection, data: bytes, packet: StreamPacket, amount: int
    ) -> None:
        self.connection = connection
        self.data = data
        """Encrypted, as it came."""
        self.packet = packet
        self.amount = amount
        """What the wallet gets."""


def bit_of(stream_id: int) -> int:
    """Of a stream in `Connection.closed_bits`; its id has passed `fault_of`, so it is small."""
    return 1 << (stream_id >> 1)


def fault_of(connection: Connection, packet: StreamPacket) -> CloseCode | None:
    """Why a packet ends its connection; None: it does not."""
    if packet.sequence > bounds.SEQUENCE_MAX:
        return CloseCode.INTERNAL_ERROR  # its keys have encrypted all that they may
    ids = {frame.stream_id for frame in packet.frames if isinstance(frame, _NAMES_STREAM)}
    if not ids:
        return None
    # The payer opens odd ones, and we open none.
    if any(id_ % 2 == 0 for id_ in ids):
        return CloseCode.STREAM_ID_ERROR
    highest = max(ids)
    if connection.is_new and packet.sequence > 1:
        # Met in its middle, after a restart: an earlier process has allowed what it uses.
        connection.stream_id_max = max(
            connection.stream_id_max, min(highest, bounds.STREAM_ID_AFTER_RESTART_MAX)
        )
    return CloseCode.STREAM_ID_ERROR if highest > connection.stream_id_max else None


def data_limits(connection: Connection, packet: StreamPacket) -> list[Frame]:
    """How much more data may be sent, if the packet has some or waits for that. Nothing of it is kept."""
    wanted = 0
    ids: set[int] = set()
    for frame in packet.frames:
        if isinstance(frame, StreamData):
            ids.add(frame.stream_id)
            wanted = max(wanted, frame.offset + len(frame.data))
        elif isinstance(frame, StreamDataBlocked):
            ids.add(frame.stream_id)
            wanted = max(wanted, frame.max_offset)
        elif isinstance(frame, ConnectionDataBlocked):
            wanted = max(wanted, frame.max_offset)
    if not wanted and not ids:
        return []
    most = min(UINT_MAX, wanted + bounds.DATA_AHEAD_BYTES)
    connection.data_max = most = max(most, connection.data_max)
    return [ConnectionMaxData(most), *(StreamMaxData(id_, most) for id_ in sorted(ids))]


def share(connection: Connection, packet: StreamPacket, amount: int) -> None:
    """Divide what was received among the streams; the remainder goes to the lowest open one."""
    streams = connection.streams
    shares: dict[int, int] = {}
    for frame in packet.frames:
        if type(frame) is StreamMoney:
            shares[frame.stream_id] = shares.get(frame.stream_id, 0) + frame.shares
    total = sum(shares.values())
    if not total:
        return
    rest = amount
    for stream_id, share in shares.items():
        part = amount * share // total
        rest -= part
        streams[stream_id] = min(UINT_MAX, streams.get(stream_id, 0) + part)
    assert rest >= 0, rest
    closed = connection.closed_bits
    lowest = min((id_ for id_ in shares if not closed & bit_of(id_)), default=min(shares))
    streams[lowest] = min(UINT_MAX, streams[lowest] + rest)
    while len(streams) > bounds.STREAMS_PER_CONNECTION_MAX:
        del streams[next(iter(streams))]
