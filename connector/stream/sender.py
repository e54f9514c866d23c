"""A payment of this node, as a state machine (RFC 29). Pure: time and randomness are handed in.

    QUOTING   probes, whose conditions nobody can fulfill, find the rate and the largest packet
    SENDING   packets with money, many in flight, each with a minimum that the receiver must get
    CLOSING   the receiver is told that it was all
    DONE      nothing is sent any more, and nothing is in flight

`take` gives the packets to be sent now; `answered` takes the answer to each. What is fulfilled and
what is in flight together never exceed the amount of the payment. No packet with money has a
sequence above what `commit` has allowed: whoever runs this writes that down before, so that after a
crash it is known which packets there may be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from typing import Final

from connector.ilp.packet import FULFILL, PREPARE, REJECT, Answer, Fulfill, Prepare, Reject
from connector.stream import bounds, money
from connector.stream.crypto import Keys
from connector.stream.money import STREAM_ID, Terms
from connector.stream.packet import (
    UINT_MAX,
    CloseCode,
    ConnectionAssetDetails,
    ConnectionClose,
    ConnectionNewAddress,
    Frame,
    StreamClose,
    StreamMaxMoney,
    StreamPacket,
    encode,
)
from connector.stream.proof import Proof
from connector.stream.rate import PacketSize, Window

_PROBED: Final = frozenset(("F99", "F05", "F04"))
"""What receivers answer to a condition that cannot be fulfilled; only if the answer authenticates."""

OwnRate = Callable[[str, int], Fraction | None]
"""Units of an asset, given by code and scale, for one of ours, by our own rates; None: not known."""


class Phase(Enum):
    """What the payment is about."""

    QUOTING = auto()
    SENDING = auto()
    CLOSING = auto()
    DONE = auto()


@dataclass(slots=True)
class Sent:
    """A packet that has no answer yet."""

    sequence: int
    amount: int
    """In our asset; of a probe it moves nothing."""
    minimum: int
    """The least that the receiver gets, in its asset."""
    phase: Phase
    """In which it was sent."""


class Payment:
    """One payment to one receiver."""

    def __init__(
        self,
        *,
        destination: str,
        secret: bytes,
        source: str,
        amount: int,
        slippage: Fraction,
        asset_code: str,
        asset_scale: int,
        now_ms: int,
        random_octets: Callable[[int], bytes],
        min_delivered: int = 0,
        own_rate: OwnRate = lambda _code, _scale: None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            destination: the receiver's ILP address.
            secret: shared with the receiver; 32 octets.
            source: the address that the receiver is told; packets to it get a temporary error.
            amount: to be sent, in our asset; at least 1.
            slippage: by which part the rate may become worse than quoted; 0 to 1.
            asset_code: of our asset.
            asset_scale: of our asset; 0 to 255.
            now_ms: milliseconds since the epoch.
            random_octets: returns so many, for the conditions of probes.
            min_delivered: the least that the receiver must get of all, in its asset.
            own_rate: what a quote is compared with before money moves.
        """
        assert amount > 0, amount
        assert 0 <= slippage <= 1, slippage
        self.amount: Final = amount
        self.phase = Phase.QUOTING
        self.sent = 0
        """Fulfilled, in our asset."""
        self.in_flight = 0
        """Amount of packets with money that have no answer."""
        self.delivered = 0
        """What the receiver says that it got; at least the minimum of every fulfilled packet."""
        self.packets = 0
        """Fulfilled packets with money."""
        self.rejected = 0
        self.reason = ""
        """Why less than the amount was sent; empty: all of it was."""
        self.terms: Terms | None = None
        """The least that packets deliver, once there is a quote; never changed."""
        self.asset: ConnectionAssetDetails | None = None
        """The receiver's, once it has said it; never changed."""
        self.sequence = 0
        """Of the last packet that was made."""
        self.committed = 0
        """The highest sequence that a packet with money may have; see `commit`."""
        self.proof = Proof()
        """Of what was fulfilled."""
        self.size = PacketSize(amount)
        self.window = Window()
        self._destination = destination
        self._keys = Keys(secret)
        self._source = source
        self._random_octets = random_octets
        self._slippage = slippage
        self._own_asset = ConnectionAssetDetails(asset_code, asset_scale)
        self._min_delivered = min_delivered
        self._own_rate = own_rate
        self._open: dict[int, Sent] = {}
        self._probes = 0
        self._receive_max = UINT_MAX
        self._received_in_flight = 0
        self._minimum_in_all = 0
        """Of the packets fulfilled and in flight."""
        self._heard_limit = False
        self._progress_ms = now_ms
        self._below_minimum = 0

    # --- what is to be done

    @property
    def is_done(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase is Phase.DONE

    @property
    def open_packets(self) -> int:
        """Packets without an answer."""
        return len(self._open)

    @property
    def open_money(self) -> list[int]:
        """The sequences of packets with money that have no answer."""
        return [one.sequence for one in self._open.values() if one.phase is Phase.SENDING]

    def commit(self, sequence: int) -> None:
        """Allow packets with money up to this sequence."""
        assert self.committed <= sequence
        self.committed = sequence

    def wake_at_ms(self) -> int:
        """When `take` is to be called if nothing happens before."""
        return max(self.window.pause_until_ms, 0)

    def stop(self, reason: str) -> None:
        """Send nothing more; what is in flight is waited for."""
        self._fail(reason)
        self._finish()

    def take(self, now_ms: int) -> list[tuple[int, Prepare]]:
        """Packets to be sent now, each with its sequence, by which its answer is given.

        There may be more, where it gives `PACKETS_AT_ONCE_MAX`: others have their turn before.
        """
        if self.phase is Phase.QUOTING:
            return self._probe(now_ms)
        if self.phase is Phase.SENDING:
            return self._send(now_ms)
        if self.phase is Phase.CLOSING and not self._open:
            self.phase = Phase.DONE
            frames: tuple[Frame, ...] = (
                StreamClose(STREAM_ID, CloseCode.NO_ERROR, ""),
                ConnectionClose(CloseCode.NO_ERROR, ""),
            )
            # Its answer does not matter, so it is not waited for.
            return [self._unpayable(0, frames, now_ms + bounds.CLOSE_EXPIRY_MS)]
        return []

    def _probe(self, now_ms: int) -> list[tuple[int, Prepare]]:
        if self._open or now_ms < self.window.pause_until_ms:
            return []
        if self._is_stalled(now_ms) or self._probes >= bounds.PROBES_MAX:
            self.stop(self.reason or "the receiver cannot be reached")
            return []
        self.reason = ""
        self._probes += 1
        # It makes the receiver tell its asset.
        frames = (ConnectionNewAddress(self._source), self._own_asset)
        amount = self.size.now
        made = self._unpayable(amount, frames, now_ms + bounds.PACKET_EXPIRY_MS)
        self._open[self.sequence] = Sent(self.sequence, amount, 0, self.phase)
        return [made]

    def _send(self, now_ms: int) -> list[tuple[int, Prepare]]:
        if now_ms < self.window.pause_until_ms:
            return []
        if self._is_stalled(now_ms):
            self.stop(self.reason or "no packet was fulfilled for too long")
            return []
        made: list[tuple[int, Prepare]] = []
        while len(self._open) < int(self.window.size) and len(made) < bounds.PACKETS_AT_ONCE_MAX:
            left = self.amount - self.sent - self.in_flight
            if not left:
                break
            if self.sequence >= self.committed:
                break
            assert self.terms is not None
            amount = self.size.next(left)
            minimum = self._minimum(self.terms, amount)
            if minimum > UINT_MAX:
                self.stop("the receiver states a rate that no packet can tell")
                break
            if self._heard_limit and (
                self.delivered + self._received_in_flight + max(1, minimum) > self._receive_max
            ):
                if not self._open:
                    self.stop("the receiver takes no more")
                break
            if self.sequence >= bounds.SEQUENCE_MAX - 1:
                self.stop("the connection has carried all packets that it may")
                break
            self.sequence += 1
            self._open[self.sequence] = Sent(self.sequence, amount, minimum, self.phase)
            self.in_flight += amount
            self._received_in_flight += minimum
            self._minimum_in_all += minimum
            expires_at_ms = now_ms + bounds.PACKET_EXPIRY_MS
            prepare = money.make(
                self._keys, self._destination, self.sequence, amount, minimum, expires_at_ms
            )
            made.append((self.sequence, prepare))
        assert self.sent + self.in_flight <= self.amount
        return made

    def _minimum(self, terms: Terms, amount: int) -> int:
        """The least that a packet has to bring, rounded down as nodes on the way round.

        What is given away so is bounded over the whole payment, then it is rounded up. Else a node on the way
        that lets only tiny packets pass (F08) could keep them: the least of one unit is less than one.
        """
        down = terms.minimum(amount)
        rate = terms.rate * (1 - terms.slippage)
        given_away = (self.sent + self.in_flight + amount) * rate - self._minimum_in_all - down
        most = 1 + self.amount * terms.rate / bounds.ROUNDED_DOWN_PARTS
        return down if given_away <= most else terms.minimum(amount, rounds_up=True)

    def _unpayable(
        self, amount: int, frames: tuple[Frame, ...], expires_at_ms: int
    ) -> tuple[int, Prepare]:
        """A packet that nobody can fulfill: a probe, or the end."""
        self.sequence += 1
        return self.sequence, Prepare(
            amount=amount,
            expires_at_ms=expires_at_ms,
            # Nobody knows a preimage. It must not follow from the secret: the receiver has that.
            condition=self._random_octets(bounds.CONDITION_BYTES),
            destination=self._destination,
            data=self._keys.seal(encode(StreamPacket(self.sequence, PREPARE, 0, frames))),
        )

    def _is_stalled(self, now_ms: int) -> bool:
        return now_ms - self._progress_ms > bounds.STALLED_MS_MAX

    # --- answers

    def answered(self, sequence: int, answer: Answer, now_ms: int) -> None:
        """The answer to a packet. A Fulfill has been checked: its preimage fits, and it came in time."""
        one = self._open.pop(sequence, None)
        if one is None:
            return
        if one.phase is Phase.SENDING:
            self.in_flight -= one.amount
            self._received_in_flight -= one.minimum
            assert self.in_flight >= 0
        if isinstance(answer, Fulfill):
            self._fulfilled(one, answer, now_ms)
        else:
            self._rejected(one, answer, now_ms)
        self._finish()

    def _fulfilled(self, one: Sent, answer: Fulfill, now_ms: int) -> None:
        self.sent += one.amount
        if one.phase is not Phase.SENDING:
            self._fail("a packet was fulfilled that nobody should be able to")
        self.packets += 1
        self._progress_ms = now_ms
        self._below_minimum = 0
        self.reason = "" if self.phase is Phase.SENDING else self.reason
        self.window.passed()
        self.size.passed(one.amount)
        reply = self._read(one, answer.data, FULFILL)
        self.proof.fulfilled(one.sequence, STREAM_ID, reply)
        if reply is None:
            # It has fulfilled, so by the protocol it got this much.
            self.delivered += one.minimum
            return
        self.delivered += reply.amount
        if reply.amount < one.minimum:
            self._fail("the receiver says that it got less than the minimum")

    def _rejected(self, one: Sent, answer: Reject, now_ms: int) -> None:
        self.rejected += 1
        if one.phase is Phase.SENDING:
            self._minimum_in_all -= one.minimum
        code = answer.code
        reply = self._read(one, answer.data, REJECT) if code in _PROBED else None
        if reply is not None:
            if one.phase is Phase.QUOTING:
                self._quoted(one, reply, now_ms)
            elif reply.amount < one.minimum:
                self._too_little(one, now_ms)
            else:
                self._wait(one, answer, now_ms)  # its limit, perhaps: it may be raised
        elif code == "F08":
            if one.amount <= 1:
                self._fail(_said(answer))
            self.size.too_large(one.amount, answer.data)
        elif code == "T04":
            self.size.no_liquidity(one.amount)
            self._wait(one, answer, now_ms)
        elif code[0] == "T" or code == "R00":
            self._wait(one, answer, now_ms)
        else:
            self._fail(_said(answer))

    def _quoted(self, one: Sent, reply: StreamPacket, now_ms: int) -> None:
        if not reply.amount:
            self._fail("nothing of this amount would arrive")
            return
        rate = Fraction(reply.amount, one.amount)
        self._progress_ms = now_ms
        refused = self._compared(rate)
        if refused:
            self._fail(refused)
        elif self.phase is Phase.QUOTING:
            share = Fraction(self._min_delivered, self.amount)
            self.terms = Terms(rate, self._slippage, share)
            self.phase = Phase.SENDING

    def _compared(self, rate: Fraction) -> str:
        """Why a quote is not accepted; empty: it is."""
        quoted = int(self.amount * rate)
        if quoted < self._min_delivered:
            return f"the quote is {quoted}, less than the {self._min_delivered} of --min-delivered"
        if self.asset is None:
            return ""
        own = self._own_rate(self.asset.asset_code, self.asset.asset_scale)
        # Whole units: what is lost by rounding is no worse rate.
        if own is None or quoted >= int(self.amount * own * (1 - self._slippage)):
            return ""
        return (
            f"the quote is {quoted}, and by this node's own rates it would be {int(self.amount * own)}: "
            "worse than --max-slippage allows"
        )

    def _too_little(self, one: Sent, now_ms: int) -> None:
        """A packet would have delivered less than its minimum."""
        self._below_minimum += 1
        if self._below_minimum > bounds.WINDOW_FIRST:
            self._fail("the rate has become worse than --max-slippage or --min-delivered allows")
            return
        self.reason = "the rate has become worse"
        self.window.refused(one.sequence, self.sequence, now_ms)

    def _wait(self, one: Sent, answer: Reject, now_ms: int) -> None:
        if self.phase in (Phase.QUOTING, Phase.SENDING):
            self.reason = _said(answer)
        self.window.refused(one.sequence, self.sequence, now_ms)

    def _read(self, one: Sent, data: bytes, packet_type: int) -> StreamPacket | None:
        """What the receiver says; None: it was not said by the receiver, or not to this packet."""
        packet = money.read(self._keys, one.sequence, data, packet_type)
        if packet is None:
            return None
        for frame in packet.frames:
            match frame:
                case ConnectionAssetDetails():
                    if self.asset is not None and frame != self.asset:
                        self._fail("the receiver has changed its asset")
                    self.asset = self.asset or frame
                case StreamMaxMoney(stream_id, receive_max, _) if stream_id == STREAM_ID:
                    # A limit that was given is never taken back.
                    if self._heard_limit:
                        receive_max = max(receive_max, self._receive_max)
                    self._heard_limit, self._receive_max = True, receive_max
                case ConnectionClose():
                    self._fail("the receiver has closed the connection")
                case StreamClose(stream_id, _, _) if stream_id == STREAM_ID:
                    self._fail("the receiver has closed the stream")
                case _:
                    pass
        return packet

    def _fail(self, reason: str) -> None:
        if self.phase in (Phase.QUOTING, Phase.SENDING):
            self.phase = Phase.CLOSING
            self.reason = reason[: bounds.REASON_CHARACTERS_MAX]

    def _finish(self) -> None:
        if self.sent == self.amount:
            if self.phase is Phase.SENDING:
                self.phase = Phase.CLOSING
            self.reason = ""


def shown_asset(details: ConnectionAssetDetails) -> str:
    """The asset that a receiver has named, `CODE/scale`: cut, and only what can be printed."""
    code = details.asset_code[: bounds.ASSET_CHARACTERS_SHOWN_MAX]
    code = "".join(one if one.isascii() and one.isprintable() else "?" for one in code)
    return f"{code}/{details.asset_scale}"


def quoted(text: str, characters_max: int) -> str:
    """What others have written, for a reason: cut, in quotation marks, and only what can be printed."""
    shown = text if len(text) <= characters_max else f"{text[: characters_max - 3]}..."
    return ascii(shown)


def _said(answer: Reject) -> str:
    """A Reject in words."""
    by = f" by {answer.triggered_by}" if answer.triggered_by else ""
    return f"{answer.code}{by[:100]}: {quoted(answer.message, 60)}"
