"""A BTP session accepts any octets; in a pair of them every request gets its own answer, once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base.errors import DecodeError, ProtocolError
from connector.btp.packet import BtpError, BtpPacket, Protocol, decode, encode
from connector.btp.session import (
    AuthRequest,
    Ignored,
    IlpAnswer,
    IlpRequest,
    LoggedIn,
    LogInRefused,
    Session,
    State,
)
from tests.support import strategies as some
from tests.support.btp_pair import Pair, session

_log_in_packets = st.builds(
    lambda request_id, name, token, more: encode(
        BtpPacket(
            kind=6,
            request_id=request_id,
            protocols=[
                Protocol("auth", 0, b""),
                Protocol("auth_username", 1, name),
                Protocol("auth_token", 1, token),
                *more,
            ],
        )
    ),
    some.request_ids,
    st.binary(max_size=8),
    st.binary(max_size=8),
    st.sampled_from(([], [Protocol("packet-id", 0, b"")])),
)
_anything = some.hostile(some.btp_octets | _log_in_packets)


def in_some_state(start: str) -> Session:
    one = session(3)
    match start:
        case "dialled":
            one.log_in("alice", "secret")
        case "asked to":
            one = Pair().log_in().server
            one.request(b"x", "request", 1)
        case "logged in":
            one = Pair().log_in().client
            one.request(b"x", "request", 1)
        case "closed":
            one.close()
    one.take_outgoing()
    return one


# Each example is several messages, or a whole conversation: fewer of them do.
fewer = settings(max_examples=settings().max_examples // 4)


@fewer
@given(
    st.sampled_from(("fresh", "dialled", "asked to", "logged in", "closed")),
    st.lists(_anything, min_size=1, max_size=6),
    st.booleans(),
)
def test_a_session_gives_an_event_or_a_fault_of_the_peer_and_nothing_else(
    start: str, messages: list[bytes], let_in: bool
) -> None:
    one = in_some_state(start)
    for octets in messages:
        before = one.state
        try:
            event = one.receive(octets)
        except DecodeError:
            assert one.state is before
            assert one.take_outgoing() == []
            continue
        except ProtocolError:
            # A request there is to answer: it is told, in a packet that can be read.
            (answer,) = map(decode, one.take_outgoing())
            assert isinstance(answer, BtpError)
            assert answer.request_id == decode(octets).request_id
            assert one.state is before
            continue
        assert isinstance(
            event, AuthRequest | Ignored | IlpAnswer | IlpRequest | LoggedIn | LogInRefused
        )
        if isinstance(event, IlpRequest | IlpAnswer):
            assert before is State.OPEN
        if isinstance(event, AuthRequest):
            (one.accept if let_in else one.refuse)(event)
            assert one.state is (State.OPEN if let_in else State.CLOSED)
        for outgoing in one.take_outgoing():
            assert decode(outgoing).request_id == decode(octets).request_id
    assert len(one.requests.open) <= 1


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Steps of two sides: ask, answer the n-th open question, forget it, deliver."""
    names = st.sampled_from(("ask", "ask", "answer", "forget", "deliver"))
    return draw(st.lists(st.tuples(names, st.integers(0, 7)), max_size=40))


@fewer
@given(
    conversations(),
    st.integers(0, 2**32 - 1) | st.integers(2**32 - 5, 2**32 - 1),
    st.booleans(),
)
def test_every_request_gets_its_own_answer_at_most_once(
    steps: list[tuple[str, int]], first_id: int, swapped: bool
) -> None:
    pair = Pair(client_first_id=first_id, server_first_id=first_id).log_in()
    if swapped:
        pair.client, pair.server = pair.server, pair.client
    asked: list[IlpRequest] = []
    waiting: dict[int, int] = {}
    number = 0

    def deliver() -> None:
        for event in pair.to_server():
            assert isinstance(event, IlpRequest)
            assert event.packet_id == int(event.ilp) + 1
            asked.append(event)
        for event in pair.to_client():
            if isinstance(event, IlpAnswer):
                assert event.ilp == b"answer to %d" % waiting.pop(event.request)
            else:
                assert event == Ignored("answer without a request")

    for step, choice in steps:
        if step == "ask":
            request_id = pair.client.request(b"%d" % number, number, number + 1)
            assert 0 <= request_id < 2**32
            waiting[number] = number
            number += 1
        elif step == "answer" and asked:
            event = asked.pop(choice % len(asked))
            pair.server.respond(event.request_id, b"answer to " + event.ilp)
        elif step == "forget" and asked:
            event = asked[choice % len(asked)]
            pair.client.requests.forget({int(event.ilp)})
            waiting.pop(int(event.ilp), None)
        else:
            deliver()
    deliver()
    for event in asked:
        pair.server.respond(event.request_id, b"answer to " + event.ilp)
    deliver()
    assert waiting == {}
    pair.client.close()
    assert pair.client.requests.open == []
