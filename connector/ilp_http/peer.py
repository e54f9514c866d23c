"""Sends packets to one peer by HTTP.

What is known of the peer is a table of five states (`reach`). It is probed by a GET, which moves no money: at the
start, when something has failed, and now and then.

    a packet is sent and its request                                 then
    cannot be connected                                              T01: the peer cannot have it
    is answered                                                      the answer
    is refused (4xx), or fails at the peer (5xx), the first time     T00
    has no answer, and would be sent in the same way now: with       sent again, until the
    its packet id, or to the same URL under its Request-Id           packet's deadline
    has no answer, and would not                                     nothing: unknown until the deadline

How a packet was sent is kept with it (`reach.Sent`), also when the settings of the peer change: what goes
out in another way is another packet to the other side. An unknown outcome is never ended before its
deadline, since the peer may still be paid for it.
A 5xx of a peer with packet ids may come from a proxy before it: the packet is sent again as well.

Long because probing, sending and sending again decide over the same tables of packets.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol

from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import HttpAnswerError, HttpError, HttpTimeoutError, HttpUnreachableError
from connector.base.http import HttpAnswer
from connector.base.log import Log, Sampler
from connector.btp.standstill import Standstill
from connector.ilp_http import bounds
from connector.ilp_http.client import NOT_CONNECTED, Asks
from connector.ilp_http.message import (
    AGAIN,
    CALLBACK_URL,
    PACKET_ID,
    REQUEST_ID,
    request_id_of,
)
from connector.ilp_http.reach import (
    BACKOFF,
    NEXT,
    WITH_PACKET_ID,
    WITHOUT_NAME,
    HttpTerms,
    Named,
    Probed,
    Reach,
    Sent,
    sent_as,
)
from connector.ilp_http.replies import Replies, Room
from connector.peering.model import Peer, Unanswered

_BEHIND_A_PROXY: Final = frozenset((502, 503, 504))


class Outgoing(Protocol):
    """A Prepare to be sent; see `switch.flight.Flight`."""

    octets: bytes
    packet_id: int
    sender_packet_id: int
    next_hop: Peer | None
    again: bool
    quiet: bool
    deadline_ms: int


class PeerOwner(Protocol):
    """What an `HttpPeer` needs of its carrier."""

    @property
    def clock(self) -> Clock:
        """For deadlines."""

    @property
    def standstill(self) -> Standstill:
        """While it holds, nothing is sent or taken."""

    def reached(self, peer_id: str) -> None:
        """Packets can be sent to the peer now."""

    def lost(self, peer_id: str, reason: str) -> None:
        """They cannot any more."""

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        """The answer to a packet, or why there is none."""


class HttpPeer:
    """See the module."""

    def __init__(
        self,
        terms: HttpTerms,
        *,
        owner: PeerOwner,
        log: Log,
        random: Callable[[], float],
        client: Asks,
        room: Room,
    ) -> None:
        """Nothing is sent before `start`.

        Args:
            terms: how packets go to the peer.
            owner: the carrier.
            log: for what the peer and the network cause, at a limited rate.
            random: returns a number from 0 to 1, for the back-off.
            client: shows the token of the peer with every request.
            room: for answers to callbacks, shared by all peers.
        """
        self.terms: Final = terms
        self.reach = Reach.UNKNOWN
        self.resends = False
        """Whether the peer knew packet ids when it was reached last."""
        self.last_error = ""
        """Why it is not reached; empty: it is."""
        self.unknown = 0
        """Packets whose request had no answer, to a peer that could not be asked again."""
        self._owner = owner
        self._log = log
        self._random = random
        self._client = client
        self._open: dict[Outgoing, None] = {}
        """Every packet that was taken and has no answer."""
        self._sent: dict[Outgoing, Sent] = {}
        """Those of them that the peer may have, and how it got them."""
        self._as_plain = sent_as(terms, ids=False)
        self._queue: OrderedDict[Outgoing, None] = OrderedDict()
        self._parked: dict[Outgoing, None] = {}
        """They wait for a probe that finds a peer to which they can be sent again."""
        self._counted: set[Outgoing] = set()
        """Counted as `unknown`."""
        self._by_request: dict[uuid.UUID, Outgoing] = {}
        """Sent asynchronously."""
        self._since_s: dict[Outgoing, float] = {}
        """When the peer accepted to answer these."""
        self._replies = Replies(
            terms,
            client=client,
            clock=owner.clock,
            random=random,
            run=self._run,
            may_speak=self._may_speak,
            say=self._say,
            room=room,
        )
        self._working = 0
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._worked = False
        """Whether a packet was answered since the last time that one was not."""
        self._said = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)

    # --- life

    def start(self, group: asyncio.TaskGroup) -> None:
        """Probe the peer, and send, in tasks of `group`."""
        self._group = group
        if self.terms.url is not None:
            self._run(self._stay_in_touch(self.terms.url))

    async def close(self) -> None:
        """End all requests; what waits for answers is left to the caller (`give_up`)."""
        self.reach = Reach.CLOSED
        self._replies.close()
        for task in list(self._tasks):
            task.cancel()
        await self._client.close()

    def _run(self, work: Any) -> None:
        assert self._group is not None
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- sending

    @property
    def is_reached(self) -> bool:
        """Whether new packets can be sent."""
        return self.reach in (Reach.PLAIN, Reach.IDS)

    def send(self, flight: Outgoing) -> Unanswered | None:
        """See `switch.driver.Outlet`."""
        if flight.again:
            self._open[flight] = None
            if self.reach is Reach.PLAIN:
                self._set_aside(flight)
            else:
                self._sent[flight] = WITH_PACKET_ID
                self._parked[flight] = None
                self._wake.set()
            return None
        if (unanswered := self.would_send()) is not None:
            return unanswered
        self._open[flight] = self._queue[flight] = None
        self._work()
        return None

    def would_send(self) -> Unanswered | None:
        """Why a new packet would not be sent now; None: it would."""
        if not self.is_reached:
            return Unanswered.NOT_SENT
        return Unanswered.BUSY if len(self._queue) >= bounds.QUEUE_PER_PEER_MAX else None

    def take_over(self, flights: Iterable[Outgoing]) -> list[Outgoing]:
        """Ask for packets that were sent over another link; returns those taken."""
        return self.adopt(dict.fromkeys(flights, WITH_PACKET_ID)) if self.resends else []

    def adopt(self, flights: Mapping[Outgoing, Sent]) -> list[Outgoing]:
        """Wait for packets that were sent so, and ask for them if they would be sent so again."""
        taken = [flight for flight in flights if flight not in self._open]
        for flight in taken:
            sent = self._sent[flight] = flights[flight]
            self._open[flight] = None
            if self.terms.is_async or sent.named is Named.REQUEST_ID:
                # The answer may still come as a request, whatever the terms are now.
                self._by_request[request_id_of(flight.packet_id)] = flight
            if sent == WITHOUT_NAME:
                self._counted.add(flight)
            else:
                self._parked[flight] = None
        if taken:
            self._wake.set()
        return taken

    def release(self) -> dict[Outgoing, Sent]:
        """Wait for no answers any more; returns the packets that had none, and how they were sent.

        Those that were not sent end so.
        """
        for flight in [one for one in self._open if one not in self._sent]:
            self._end(flight, Unanswered.NOT_SENT)
        left = {flight: self._sent[flight] for flight in self._open}
        for flight, sent in left.items():
            if sent == WITHOUT_NAME:
                self._count(flight)
        self.forget(left)
        return left

    def hand_over(self) -> None:
        """Another link, with packet ids, asks for what waits here to be sent again."""
        self.forget([one for one in self._parked if self._sent[one] == WITH_PACKET_ID])

    def carries(self, flight: Any) -> bool:
        """Whether the answer to a packet is waited for here."""
        return flight in self._open

    def forget(self, flights: Collection[Outgoing]) -> None:
        """Stop waiting for the answers to these."""
        for flight in flights:
            if flight in self._open:
                del self._open[flight]
                sent = self._sent.pop(flight, WITHOUT_NAME)
                self._queue.pop(flight, None)
                self._parked.pop(flight, None)
                self._since_s.pop(flight, None)
                self._counted.discard(flight)
                if self.terms.is_async or sent.named is Named.REQUEST_ID:
                    self._by_request.pop(request_id_of(flight.packet_id), None)

    def give_up(self, *, only_not_resendable: bool) -> None:
        """This node stops: end the wait for packets, but for those that their senders resend."""
        left = [one for one in self._open if not (only_not_resendable and one.sender_packet_id)]
        for flight in left:
            self._end(flight, Unanswered.LINK_LOST)

    def replied(self, request_id: uuid.UUID, octets: bytes) -> bool:
        """The peer has posted the answer to a packet; False: none waits for it."""
        flight = self._by_request.get(request_id)
        if flight is None:
            return False
        self._end(flight, octets)
        return True

    def reply(self, request_id: uuid.UUID, octets: bytes, until_ms: int) -> bool:
        """Post an answer to the callback of the peer; False: there is no room."""
        return self._group is not None and self._replies.post(request_id, octets, until_ms)

    def _end(self, flight: Outgoing, said: bytes | Unanswered) -> None:
        if flight in self._open:
            self.forget((flight,))
            self._owner.answered(flight, said)

    def _work(self) -> None:
        if self._working < bounds.REQUESTS_AT_ONCE_PER_PEER_MAX and self._group is not None:
            self._working += 1
            self._run(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._queue:
                flight, _ = self._queue.popitem(last=False)
                await self._send(flight)
        finally:
            self._working -= 1

    async def _send(self, flight: Outgoing) -> None:
        """One request with a packet."""
        terms = self.terms
        assert terms.url is not None
        left_s = (flight.deadline_ms - self._owner.clock.now_ms()) / 1000
        if left_s <= 0 or not await self._may_speak() or flight not in self._open:
            return  # the driver ends it, or has
        now = self._sent_now()
        again = flight in self._sent
        if again and self._sent[flight] != now:
            self._parked[flight] = None  # the peer was found to be of another kind meanwhile
            self._wake.set()
            return
        may_repeat = now != WITHOUT_NAME
        body, headers = flight.octets, {"Content-Type": terms.content_type}
        if self.resends:
            headers[PACKET_ID] = f"{flight.packet_id:032x}"
            if again:
                body = AGAIN + body
        if terms.is_async:
            assert terms.own_callback_url is not None
            request_id = request_id_of(flight.packet_id)
            self._by_request[request_id] = flight
            headers |= {REQUEST_ID: str(request_id), CALLBACK_URL: terms.own_callback_url}
        if again and flight.next_hop is not None:
            flight.next_hop.counters.resent_out += 1
        self._sent[flight] = now
        seconds = min(left_s, bounds.ATTEMPT_SECONDS_MAX) if may_repeat else left_s
        try:
            answer = await self._client.ask(
                "POST", terms.url, content=body, headers=headers, seconds_max=seconds
            )
        except HttpUnreachableError as error:
            if error.kind == NOT_CONNECTED and not again:
                self._sent.pop(flight, None)
                await self._may_speak()
                self._end(flight, Unanswered.NOT_SENT)
                self._probed(Probed.FAILED, str(error))
                self._wake.set()
            else:
                self._unanswered(flight, str(error))
        except HttpTimeoutError as error:
            self._unanswered(flight, str(error))
        except HttpAnswerError as error:
            if again:
                self._unanswered(flight, str(error))
            else:
                self._end(flight, Unanswered.REFUSED)
        else:
            await self._may_speak()
            self._take(flight, answer, again=again)

    def _take(self, flight: Outgoing, answer: HttpAnswer, *, again: bool) -> None:
        """`again`: the peer may have had the packet before, so only an answer of its own tells what became of it."""
        if answer.status == 200:
            is_other = self.resends and PACKET_ID.lower() not in answer.headers
            if is_other:
                self._probed(Probed.PLAIN, "")  # another program answers there now
            if is_other and again:
                self._unanswered(flight, "another program has answered")
            else:
                self._worked = True
                self._end(flight, answer.body)
        elif answer.status == 202:
            # The answer comes as a request, or never: what is synchronous does not answer so.
            self._worked = True
            if flight in self._open:
                self._since_s[flight] = self._owner.clock.monotonic_s()
        elif answer.status >= 500 and self._sent.get(flight) != WITHOUT_NAME:
            self._unanswered(flight, f"HTTP {answer.status}")
        else:
            self._say("ilp_http_packet_refused", f"HTTP {answer.status}")
            if answer.status == 401:
                self._wake.set()  # a probe tells whether the token is refused altogether
            if again:
                # Refused is the question: a token that has changed, a second Request-Id.
                self._unanswered(flight, f"HTTP {answer.status}", is_final=True)
            else:
                self._end(flight, Unanswered.REFUSED)

    def _unanswered(self, flight: Outgoing, reason: str, *, is_final: bool = False) -> None:
        """The peer may have the packet; `is_final`: a program without packet ids is not asked again (RFC 35)."""
        if flight not in self._open:
            return
        self._say("ilp_http_no_answer", reason)
        sent = self._sent[flight]
        if sent == WITHOUT_NAME or (is_final and sent != WITH_PACKET_ID):
            self._count(flight)
        else:
            self._parked[flight] = None
            self._wake.set()

    def _sent_now(self) -> Sent:
        return WITH_PACKET_ID if self.resends else self._as_plain

    def _set_aside(self, flight: Outgoing) -> None:
        """Of a packet of an earlier process nobody knows how it was sent: it is not sent again.

        If it was sent asynchronously the answer may still come.
        """
        self._sent[flight] = WITHOUT_NAME
        if self.terms.is_async:
            self._by_request[request_id_of(flight.packet_id)] = flight
        self._count(flight)

    def _count(self, flight: Outgoing) -> None:
        if flight not in self._counted:
            self._counted.add(flight)
            self.unknown += not flight.quiet  # a request about routes is no money

    def _say(self, event: str, reason: str) -> None:
        suppressed = self._said.allow(self._owner.clock.monotonic_s())
        if suppressed is not None:
            self._log.warning(
                event, peer_id=self.terms.peer_id, reason=reason, suppressed=suppressed
            )

    async def _may_speak(self) -> bool:
        """Wait while the process does not know whether it is the active one."""
        standstill = self._owner.standstill
        standstill.look(self._owner.clock.monotonic_s())
        while standstill.is_held:
            await asyncio.sleep(0.02)
        return self.reach is not Reach.CLOSED

    # --- being in touch

    async def _stay_in_touch(self, url: str) -> None:
        failures = 0
        while True:
            self._wake.clear()
            probed, reason = await self._probe(url)
            await self._may_speak()
            self._probed(probed, reason)
            if self.is_reached:
                self._send_again()
                if not await self._is_troubled():
                    failures = 0
                    continue
            # Also where every probe succeeds and every packet fails: it is not sent without pause.
            failures = max(1, failures - 1) if self._worked else failures + 1
            self._worked = False
            await asyncio.sleep(BACKOFF.wait_s(failures, self._random))

    async def _is_troubled(self) -> bool:
        """Return when the peer has to be probed: True for a packet's sake, False after a time of rest.

        A peer that answers packets is not probed: under load its answer could come too late.
        """
        while True:
            try:
                async with asyncio.timeout(bounds.PROBE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                if not self._worked:
                    return False
                self._worked = False
            else:
                return True

    async def _probe(self, url: str) -> tuple[Probed, str]:
        try:
            answer = await self._client.ask("GET", url, seconds_max=bounds.PROBE_ANSWER_SECONDS_MAX)
        except HttpAnswerError:
            return Probed.PLAIN, ""
        except HttpError as error:
            return Probed.FAILED, str(error)
        if answer.status in (401, 429):
            return Probed.FAILED, f"the token is refused (HTTP {answer.status})"
        if answer.status in _BEHIND_A_PROXY:
            return Probed.FAILED, f"HTTP {answer.status}"
        return (Probed.IDS if PACKET_ID.lower() in answer.headers else Probed.PLAIN), ""

    def _probed(self, probed: Probed, reason: str) -> None:
        before, self.reach = self.reach, NEXT[self.reach, probed]
        if probed is not Probed.FAILED:
            self.resends = probed is Probed.IDS
        if reason and reason != self.last_error:
            # Once per reason: a peer that is away for a day causes one line.
            self._log.warning("ilp_http_not_reached", peer_id=self.terms.peer_id, reason=reason)
        self.last_error = reason
        was = before in (Reach.PLAIN, Reach.IDS)
        if self.is_reached and self.reach is not before:
            self._log.info(
                "ilp_http_reached",
                peer_id=self.terms.peer_id,
                packet_ids=self.reach is Reach.IDS,
                mode="async" if self.terms.is_async else "sync",
            )
        if self.is_reached and not was:
            self._owner.reached(self.terms.peer_id)
        elif was and not self.is_reached:
            self._owner.lost(self.terms.peer_id, reason)
            queue, self._queue = self._queue, OrderedDict()
            for flight in queue:
                if flight in self._sent:
                    self._parked[flight] = None
                else:
                    self._end(flight, Unanswered.NOT_SENT)

    def _send_again(self) -> None:
        """Send what waited for the peer, oldest first; what would be sent in another way goes on waiting."""
        now = self._sent_now()
        parked, self._parked = self._parked, {}
        for flight in parked:
            if self._sent[flight] == now:
                self._queue[flight] = None
                self._work()
            elif flight.again and now != WITH_PACKET_ID:
                self._set_aside(flight)
            else:
                self._parked[flight] = None
                self._count(flight)

    def tick(self, now_s: float) -> None:
        """Called about once a second: ask again for answers that do not come."""
        if self.reach is not Reach.IDS:
            return
        for flight, since_s in list(self._since_s.items()):
            if now_s - since_s >= bounds.ATTEMPT_SECONDS_MAX:
                del self._since_s[flight]
                self._parked[flight] = None
                self._wake.set()
