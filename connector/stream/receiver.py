"""Answers the packets of payments to wallets of this node (RFC 29). Pure: no clock, no randomness.

A packet is for a wallet if its address is one that `invite` gave out. What is decided, in order:

    not encrypted with our secret, or no STREAM Prepare      F06, without data
    malformed frames, streams beyond the limit, too many     F99, with the close of the connection
      packets, a connection that is closed
    a condition that is not ours: a probe                    F99, with what would have been received
    less than the sender's minimum                           F99, the same
    data that its operator declines, if there is one asked   F99, with the close of the connection
    otherwise                                                fulfilled

Everything that a Fulfill needs follows from the address and the packet. What is kept in memory (what
streams have received, and whether a connection is closed) is bounded, and none of it is needed to be
paid: a connection that was forgotten is taken up again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from connector.base.errors import DecodeError
from connector.ilp.packet import FULFILL, PREPARE, REJECT, Code, Fulfill, Prepare, Reject, reject
from connector.stream import bounds
from connector.stream.connection import (
    Arrival,
    Connection,
    bit_of,
    data_limits,
    fault_of,
    share,
)  # fmt: skip
from connector.stream.incoming import IncomingPayments
from connector.stream.packet import (
    UINT_MAX,
    CloseCode,
    ConnectionAssetDetails,
    ConnectionClose,
    ConnectionMaxStreamId,
    ConnectionNewAddress,
    Frame,
    StreamClose,
    StreamData,
    StreamMaxMoney,
    StreamMoney,
    StreamMoneyBlocked,
    StreamPacket,
    encode,
    read_frames,
    read_head,
)
from connector.stream.questions import (
    PaymentData,
    payment_id_of,
    pieces_of,
    question_id_of,
    said,
)
from connector.stream.tokens import Tokens

_CLOSED_UNPAID_MAX: Final = 4
"""Streams whose end is remembered of who has not paid yet."""


class Receiver:
    """Answers packets for the wallets of this node."""

    def __init__(
        self,
        *,
        key: bytes,
        former_key: bytes | None = None,
        wallets: Collection[str],
        asset_code: str,
        asset_scale: int,
        own_address: Callable[[], str],
        takes_data: Callable[[], bool] = lambda: False,
        incoming: IncomingPayments | None = None,
    ) -> None:
        """Take the key of the node.

        Args:
            key: 32 octets, the same at every start.
            former_key: the key before that: its addresses are taken still, and none is given out.
            wallets: the names that can be paid.
            asset_code: of all wallets.
            asset_scale: 0 to 255.
            own_address: the ILP address of this node; empty while it has none.
            takes_data: whether somebody decides about data (`question`); else it is ignored.
            incoming: takes note of what was paid.
        """
        self.wallets: Final = tuple(wallets)
        self._names: Final = frozenset(wallets)
        self._tokens = Tokens(key)
        self._former_tokens = None if former_key is None else Tokens(former_key)
        self._asset = ConnectionAssetDetails(asset_code, asset_scale)
        self._own_address = own_address
        self._takes_data = takes_data
        self._incoming = incoming
        self._connections: dict[str, Connection] = {}
        """By token, the one used last at the end."""

    def invite(self, wallet: str, nonce: bytes) -> tuple[str, bytes] | None:
        """An address and a shared secret for a payment to `wallet`; None: no address yet.

        `nonce`: 12 octets, never the same again.
        """
        assert wallet in self._names, wallet
        own = self._own_address()
        if not own:
            return None
        token, secret = self._tokens.make(wallet, nonce)
        return f"{own}.{token}", secret

    def find(self, destination: str) -> Connection | None:
        """The connection that a packet belongs to; None: this is no address of a wallet."""
        own, _, token = destination.rpartition(".")
        if own != self._own_address():
            return None
        known = self._connections.get(token)
        if known is not None:
            return known
        found = self._read(token)
        if found is None or found[0] not in self._names:
            return None
        return Connection(token, *found)

    def find_former(self, destination: str) -> Connection | None:
        """The same, also for an address that this node had, or a wallet that it had, before a restart.

        Only packets whose money is held or posted are answered there: see `again`.
        """
        token = destination.rpartition(".")[2]
        known = self._connections.get(token)
        if known is not None:
            return known
        found = self._read(token)
        return None if found is None else Connection(token, *found)

    def fulfills(self, prepare: Prepare) -> bool:
        """Whether this is a packet that its payer made for us to fulfill, whatever became of it."""
        connection = self.find_former(prepare.destination)
        return (
            connection is not None
            and connection.keys.condition(prepare.data) == prepare.condition
            and connection.keys.open(prepare.data) is not None
        )

    def arrived(self, connection: Connection, prepare: Prepare, amount: int) -> Arrival | Reject:
        """Decide on a new packet of which the wallet would get `amount`."""
        opened = self._open(connection, prepare)
        if opened is None:
            return self._unexpected()
        packet, frames_at, plain = opened
        connection = self._remember(connection)
        try:
            packet.frames = read_frames(plain, frames_at)
        except DecodeError:
            return self._close(connection, packet, amount, CloseCode.FRAME_FORMAT_ERROR)
        fault = fault_of(connection, packet)
        if fault is not None:
            return self._close(connection, packet, amount, fault)
        if connection.close is not None:
            return self._refuse(connection, packet, amount, "connection closed")
        self._note(connection, packet)
        if connection.keys.condition(prepare.data) != prepare.condition:
            return self._refuse(connection, packet, amount, "condition cannot be fulfilled")
        if amount < packet.amount:
            return self._refuse(connection, packet, amount, "less than the minimum")
        return Arrival(connection, prepare.data, packet, amount)

    def again(self, connection: Connection, prepare: Prepare, amount: int) -> Fulfill | None:
        """The Fulfill of a packet that was accepted before, perhaps by an earlier process.

        Its money was held, so it was decided on; it is not counted a second time. None: it cannot be
        fulfilled by us.
        """
        if connection.keys.condition(prepare.data) != prepare.condition:
            return None
        opened = self._open(connection, prepare)
        if opened is None:
            return None
        packet = opened[0]
        return Fulfill(
            fulfillment=connection.keys.fulfillment(prepare.data),
            data=self._reply(connection, packet, FULFILL, amount),
        )

    def question(self, arrival: Arrival) -> PaymentData | None:
        """What is to be asked before the packet is accepted; None: nothing, it has no data."""
        if not self._takes_data():
            return None
        pieces = pieces_of(arrival.packet.frames)
        if not pieces:
            return None
        connection = arrival.connection
        return PaymentData(
            question_id=question_id_of(arrival.data),
            payment_id=payment_id_of(connection.token),
            wallet=connection.wallet,
            asset_code=self._asset.asset_code,
            asset_scale=self._asset.asset_scale,
            amount=arrival.amount,
            pieces=pieces,
        )

    def accepted(self, arrival: Arrival) -> Reject | None:
        """Take up a packet whose data was accepted; a Reject if its connection was closed meanwhile."""
        connection = arrival.connection
        if connection.close is not None:
            return self._refuse(connection, arrival.packet, arrival.amount, "connection closed")
        return None

    def decline(self, arrival: Arrival, message: str) -> Reject:
        """The Reject of a packet whose data was declined: its payment ends.

        The message goes as data, where payers of Rafiki look for it, and as the reason of the close.
        """
        connection, packet = arrival.connection, arrival.packet
        message = said(message)
        if connection.close is None:
            self._end(connection, CloseCode.APPLICATION_ERROR, message or "declined")
        assert connection.close is not None
        frames: list[Frame] = [connection.close]
        if message:
            (first, *_) = pieces_of(packet.frames)
            frames.append(StreamData(first.stream_id, 0, message.encode("utf-8")))
        answer = StreamPacket(packet.sequence, REJECT, arrival.amount, tuple(frames))
        return reject(
            Code.F99_APPLICATION_ERROR,
            self._own_address(),
            "declined",
            connection.keys.seal(encode(answer)),
        )

    def received(self, connection: Connection, amount: int) -> None:
        """A packet was fulfilled, and its money is the wallet's."""
        if self._incoming is not None:
            self._incoming.received(connection.token, connection.wallet, amount)

    def fulfill(self, arrival: Arrival) -> Fulfill:
        """The Fulfill of a packet whose money is held; counts it as received."""
        connection, packet, amount = arrival.connection, arrival.packet, arrival.amount
        if amount:
            connection.has_paid = True
        share(connection, packet, amount)
        return Fulfill(
            fulfillment=connection.keys.fulfillment(arrival.data),
            data=self._reply(connection, packet, FULFILL, amount),
        )

    # --- parts

    def _read(self, token: str) -> tuple[str, bytes] | None:
        found = self._tokens.read(token)
        if found is None and self._former_tokens is not None:
            return self._former_tokens.read(token)
        return found

    def _open(
        self, connection: Connection, prepare: Prepare
    ) -> tuple[StreamPacket, int, bytes] | None:
        plain = connection.keys.open(prepare.data)
        if plain is None:
            return None
        try:
            packet, at = read_head(plain)
        except DecodeError:
            return None
        # An answer that somebody on the way sends back as a question.
        return None if packet.packet_type != PREPARE else (packet, at, plain)

    def _remember(self, connection: Connection) -> Connection:
        """Keep it as the one used last; the one not used for longest goes if there are too many.

        Returns the one that is kept, which another packet of the same payer may have brought.
        """
        connections = self._connections
        connection = connections.pop(connection.token, connection)
        connections[connection.token] = connection
        if len(connections) > bounds.CONNECTIONS_MAX:
            del connections[next(iter(connections))]
        return connection

    def _note(self, connection: Connection, packet: StreamPacket) -> None:
        """Take in the frames that change what is known."""
        connection.is_new = False
        for frame in packet.frames:
            kind = type(frame)
            if kind is ConnectionClose:
                self._end(connection, CloseCode.NO_ERROR)
            elif kind is StreamClose:
                assert isinstance(frame, StreamClose)
                closed = connection.closed_bits
                most = bounds.STREAMS_CLOSED_MAX if connection.has_paid else _CLOSED_UNPAID_MAX
                if not closed & bit_of(frame.stream_id) and closed.bit_count() < most:
                    connection.closed_bits |= bit_of(frame.stream_id)
                    # Another one may be opened in its place.
                    connection.stream_id_max = min(UINT_MAX, connection.stream_id_max + 2)

    def _end(self, connection: Connection, code: CloseCode, message: str = "") -> None:
        connection.close = ConnectionClose(code, message)
        if self._incoming is not None:
            self._incoming.closed(connection.token)

    def _unexpected(self) -> Reject:
        return reject(Code.F06_UNEXPECTED_PAYMENT, self._own_address(), "unexpected payment")

    def _refuse(
        self, connection: Connection, packet: StreamPacket, amount: int, why: str
    ) -> Reject:
        return reject(
            Code.F99_APPLICATION_ERROR,
            self._own_address(),
            why,
            self._reply(connection, packet, REJECT, amount),
        )

    def _close(
        self, connection: Connection, packet: StreamPacket, amount: int, code: CloseCode
    ) -> Reject:
        if connection.close is None:
            self._end(connection, code)
        packet.frames = ()
        return self._refuse(connection, packet, amount, "connection closed")

    def _reply(
        self, connection: Connection, packet: StreamPacket, packet_type: int, amount: int
    ) -> bytes:
        frames: list[Frame] = []
        told: set[int] = set()
        if connection.close is not None:
            frames.append(connection.close)
        elif self._takes_data() and (limits := data_limits(connection, packet)):
            frames += limits
        for frame in packet.frames:
            kind = type(frame)
            if kind is ConnectionNewAddress:
                frames.append(self._asset)
            elif kind is StreamMoney or kind is StreamMoneyBlocked:
                assert isinstance(frame, StreamMoney | StreamMoneyBlocked)
                if frame.stream_id not in told:
                    told.add(frame.stream_id)
                    # The most that can be said: a limit is never lowered after that.
                    received = connection.streams.get(frame.stream_id, 0)
                    frames.append(StreamMaxMoney(frame.stream_id, UINT_MAX, received))
            elif kind is StreamClose:
                frames.append(ConnectionMaxStreamId(connection.stream_id_max))
        return connection.keys.seal(
            encode(StreamPacket(packet.sequence, packet_type, amount, tuple(frames)))
        )
