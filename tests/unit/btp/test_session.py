"""States of a BTP connection and what is allowed in each, mostly by pairs of sessions (RFC 23)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connector.base import limits
from connector.base.errors import DecodeError, ProtocolError
from connector.btp import bounds
from connector.btp.packet import (
    ERROR,
    MESSAGE,
    RESPONSE,
    TRANSFER,
    BtpError,
    BtpPacket,
    Protocol,
    decode,
    encode,
    encode_empty_response,
    encode_ilp,
)
from connector.btp.session import (
    TRANSITIONS,
    AuthRequest,
    Ignored,
    IlpAnswer,
    IlpRequest,
    LoggedIn,
    LogInRefused,
    Requests,
    Session,
    State,
)
from tests.support.btp_pair import NOW_MS, Pair, session, with_packet_ids

ALICE = AuthRequest(1, "alice", "secret", resumable=False)
# What ilp-plugin-btp 1.5.0 opens with for `btp+ws://alice:secret@...` (requirements 5.4).
JS_LOG_IN = bytes.fromhex(
    "06 00000001 31 0103"
    "04 61757468 00 00"
    "0d 617574685f757365726e616d65 01 05 616c696365"
    "0a 617574685f746f6b656e 01 06 736563726574"
)


def message(*protocols: Protocol, kind: int = MESSAGE, request_id: int = 5) -> bytes:
    amount = 1 if kind == TRANSFER else None
    return encode(BtpPacket(kind=kind, request_id=request_id, protocols=protocols, amount=amount))


def error(request_id: int = 5, code: str = "F00", data: bytes = b"no") -> bytes:
    return encode(
        BtpError(
            request_id=request_id, code=code, name="NotAcceptedError", triggered_at_ms=0, data=data
        )
    )


def octets(name: str, data: bytes = b"") -> Protocol:
    return Protocol(name, 0, data)


AUTH = octets("auth")
TOKEN = Protocol("auth_token", 1, b"secret")


def sent_error(by: Session) -> BtpError:
    """The one packet that waits to be sent, which is an Error."""
    (outgoing,) = by.take_outgoing()
    answer = decode(outgoing)
    assert isinstance(answer, BtpError)
    return answer


# --- the table

EXPECTED = {
    ("AWAITING_AUTH", "AUTH_RECEIVED"): "CHECKING_AUTH",
    ("AWAITING_AUTH", "AUTH_SENT"): "LOGGING_IN",
    ("CHECKING_AUTH", "AUTH_ACCEPTED"): "OPEN",
    ("CHECKING_AUTH", "AUTH_REFUSED"): "CLOSED",
    ("LOGGING_IN", "AUTH_ACCEPTED"): "OPEN",
    ("LOGGING_IN", "AUTH_REFUSED"): "CLOSED",
}


def test_the_table_holds_the_legal_moves_and_no_others() -> None:
    table = {(state.name, move.name): to.name for (state, move), to in TRANSITIONS.items()}
    closing = {(state.name, "CLOSE"): "CLOSED" for state in State}
    assert table == EXPECTED | closing


def in_state(state: State) -> Session:
    """A session that came to `state` by what was said; nothing waits to be sent."""
    one = session()
    match state:
        case State.AWAITING_AUTH:
            pass
        case State.CHECKING_AUTH:
            one.receive(JS_LOG_IN)
        case State.LOGGING_IN:
            one.log_in("alice", "secret")
        case State.OPEN:
            one.receive(JS_LOG_IN)
            one.accept(ALICE)
        case State.CLOSED:
            one.close()
    one.take_outgoing()
    assert one.state is state
    return one


OUR_MOVES: dict[str, tuple[Callable[[Session], object], dict[State, State]]] = {
    "log in": (
        lambda one: one.log_in("bob", "x"),
        {State.AWAITING_AUTH: State.LOGGING_IN},
    ),
    # What dials is accepted by the other side, never by itself: see the next test.
    "accept": (
        lambda one: one.accept(ALICE),
        {State.CHECKING_AUTH: State.OPEN, State.LOGGING_IN: State.OPEN},
    ),
    "refuse": (
        lambda one: one.refuse(ALICE),
        {State.CHECKING_AUTH: State.CLOSED, State.LOGGING_IN: State.CLOSED},
    ),
    "close": (Session.close, dict.fromkeys(State, State.CLOSED)),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", OUR_MOVES)
def test_a_move_of_ours_without_a_row_is_refused_and_changes_nothing(
    move: str, state: State
) -> None:
    one = in_state(state)
    act, legal = OUR_MOVES[move]
    if state in legal:
        act(one)
        assert one.state is legal[state]
    else:
        with pytest.raises(ProtocolError, match=f"while {state.name}"):
            act(one)
        assert one.state is state
        assert one.take_outgoing() == []


@pytest.mark.parametrize("state", [s for s in State if s is not State.OPEN])
def test_nothing_is_asked_or_answered_before_or_after_a_session_is_open(state: State) -> None:
    with pytest.raises(AssertionError):
        in_state(state).request(b"ilp", "request", 0)
    with pytest.raises(AssertionError):
        in_state(state).respond(1, b"ilp")


@pytest.mark.parametrize("state", [State.CHECKING_AUTH, State.LOGGING_IN, State.CLOSED])
@pytest.mark.parametrize("kind", [MESSAGE, TRANSFER])
def test_a_request_outside_an_open_session_is_answered_with_an_error(
    state: State, kind: int
) -> None:
    one = in_state(state)
    with pytest.raises(ProtocolError, match=f"a request while {state.name}"):
        one.receive(message(octets("ilp", b"x"), kind=kind, request_id=77))
    answer = sent_error(one)
    assert (answer.request_id, answer.code, answer.data) == (77, "F00", b"not logged in")
    assert answer.triggered_at_ms == NOW_MS
    assert one.state is state


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    "answer", [encode_empty_response(5), encode_ilp(RESPONSE, 5, b"x"), error(5)]
)
def test_an_answer_to_nothing_gets_no_answer_in_any_state(state: State, answer: bytes) -> None:
    """RFC 23, Flow."""
    one = in_state(state)
    assert one.receive(answer) == Ignored("answer without a request")
    assert one.state is state
    assert one.take_outgoing() == []


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    "garbage", [b"", b"\x06", b"\x05\x00\x00\x00\x01\x02\x01\x00", b"\xff" * 9]
)
def test_garbage_is_a_decode_error_and_gets_no_answer(state: State, garbage: bytes) -> None:
    one = in_state(state)
    with pytest.raises(DecodeError):
        one.receive(garbage)
    assert one.state is state
    assert one.take_outgoing() == []


# --- logging in


def test_a_log_in_has_auth_first_and_then_username_and_token() -> None:
    client = session(7)
    client.log_in("älice", "sécret")
    (opening,) = client.take_outgoing()
    assert decode(opening) == BtpPacket(
        kind=MESSAGE,
        request_id=7,
        protocols=[
            Protocol("auth", 0, b""),
            Protocol("auth_username", 1, "älice".encode()),
            Protocol("auth_token", 1, "sécret".encode()),
            Protocol("packet-id", 0, b""),
        ],
    )


def test_two_sessions_of_ours_log_in_and_know_packet_ids() -> None:
    pair = Pair()
    auth = pair.ask_to_log_in("alice", "secret")
    assert auth == AuthRequest(100, "alice", "secret", resumable=True)
    assert pair.server.state is State.CHECKING_AUTH
    assert pair.client.state is State.LOGGING_IN
    pair.server.accept(auth)
    assert pair.to_client() == [LoggedIn()]
    assert pair.client.state is pair.server.state is State.OPEN
    assert pair.client.resumable
    assert pair.server.resumable


def test_what_waits_to_be_sent_is_given_out_once_and_in_order() -> None:
    one = in_state(State.OPEN)
    one.request(b"a", "a", 0)
    one.respond(9, b"b")
    first, second = one.take_outgoing()
    assert (first[0], second[0]) == (MESSAGE, RESPONSE)
    assert one.take_outgoing() == []


def test_ilp_plugin_btp_is_let_in_without_packet_ids() -> None:
    server = session()
    event = server.receive(JS_LOG_IN)
    assert event == AuthRequest(1, "alice", "secret", resumable=False)
    server.accept(event)
    # A JS peer's empty Response, octet for octet.
    assert server.take_outgoing() == [bytes.fromhex("0100000001020100")]
    assert server.state is State.OPEN
    assert not server.resumable


def test_ilp_plugin_btp_with_an_empty_username_is_let_in() -> None:
    """`btp+ws://:secret@...` sends `auth_username` all the same."""
    event = session().receive(message(AUTH, Protocol("auth_username", 1, b""), TOKEN))
    assert event == AuthRequest(5, "", "secret", resumable=False)


def test_a_log_in_to_ilp_plugin_btp_leaves_packet_ids_off() -> None:
    client = session(1)
    client.log_in("alice", "secret")
    client.take_outgoing()
    assert client.receive(bytes.fromhex("0100000001020100")) == LoggedIn()
    assert client.state is State.OPEN
    assert not client.resumable


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        ((AUTH, TOKEN), AuthRequest(5, "", "secret", resumable=False)),
        (
            (AUTH, TOKEN, Protocol("auth_username", 1, "älice".encode())),
            AuthRequest(5, "älice", "secret", resumable=False),
        ),
        ((AUTH, Protocol("auth_token", 1, b"")), AuthRequest(5, "", "", resumable=False)),
        ((AUTH, octets("other"), TOKEN), AuthRequest(5, "", "secret", resumable=False)),
        ((AUTH, TOKEN, octets("packet-id")), AuthRequest(5, "", "secret", resumable=True)),
        (
            (AUTH, Protocol("auth_token", 1, b"t" * limits.BTP_TOKEN_BYTES_MAX)),
            AuthRequest(5, "", "t" * limits.BTP_TOKEN_BYTES_MAX, resumable=False),
        ),
    ],
)
def test_a_log_in_needs_auth_first_and_a_token_and_nothing_else(
    protocols: tuple[Protocol, ...], expected: AuthRequest
) -> None:
    one = session()
    assert one.receive(message(*protocols)) == expected
    assert one.state is State.CHECKING_AUTH
    assert one.take_outgoing() == []


@pytest.mark.parametrize(
    ("first", "data"),
    [
        (message(), b"log in first"),
        (message(octets("ilp", b"x")), b"log in first"),
        (encode_ilp(MESSAGE, 5, b"x"), b"log in first"),
        (message(TOKEN, AUTH), b"log in first"),
        (message(AUTH, TOKEN, kind=TRANSFER), b"log in first"),
        (message(AUTH), b"auth_token is missing"),
        (message(AUTH, Protocol("auth_username", 1, b"alice")), b"auth_token is missing"),
        (message(AUTH, Protocol("auth_token", 1, b"\xff")), b"credentials are not readable"),
        (
            message(AUTH, Protocol("auth_username", 1, b"\xff"), TOKEN),
            b"credentials are not readable",
        ),
        (
            message(AUTH, Protocol("auth_token", 1, b"t" * (limits.BTP_TOKEN_BYTES_MAX + 1))),
            b"credentials are not readable",
        ),
        (
            message(
                AUTH, Protocol("auth_username", 1, b"u" * (limits.BTP_TOKEN_BYTES_MAX + 1)), TOKEN
            ),
            b"credentials are not readable",
        ),
    ],
)
def test_anything_but_a_log_in_first_is_answered_with_an_error(first: bytes, data: bytes) -> None:
    one = session()
    with pytest.raises(ProtocolError):
        one.receive(first)
    answer = sent_error(one)
    assert (answer.request_id, answer.code, answer.name) == (5, "F00", "NotAcceptedError")
    assert answer.data == data
    assert one.state is State.AWAITING_AUTH


def test_a_log_in_that_is_refused_says_nothing_about_why() -> None:
    pair = Pair()
    auth = pair.ask_to_log_in()
    pair.server.refuse(auth)
    assert pair.server.state is State.CLOSED
    assert pair.to_client() == [LogInRefused("F00", "invalid username or token")]
    assert pair.client.state is State.CLOSED


def test_the_reason_of_a_refusal_is_cut_and_made_readable() -> None:
    client = session(1)
    client.log_in("alice", "secret")
    refused = client.receive(error(1, "T00", b"\xff" + b"x" * 200))
    assert refused == LogInRefused("T00", "\ufffd" + "x" * 99)


def test_only_the_answer_to_the_log_in_opens_the_session() -> None:
    client = session(1)
    client.log_in("alice", "secret")
    client.receive(encode_empty_response(2))
    client.receive(error(2))
    assert client.state is State.LOGGING_IN


def test_a_second_answer_to_the_log_in_is_ignored() -> None:
    pair = Pair().log_in()
    assert pair.client.receive(error(100)) == Ignored("answer without a request")
    assert pair.client.receive(encode_empty_response(100)) == Ignored("answer without a request")
    assert pair.client.state is State.OPEN


def test_a_second_log_in_is_answered_with_an_error_and_changes_nothing() -> None:
    one = in_state(State.OPEN)
    assert one.receive(JS_LOG_IN) == Ignored("unknown primary protocol")
    assert sent_error(one).request_id == 1
    assert one.state is State.OPEN


# --- requests and answers


@pytest.mark.parametrize("swapped", [False, True], ids=["dialling", "listening"])
def test_either_side_asks_and_gets_its_answer(*, swapped: bool) -> None:
    pair = with_packet_ids()
    if swapped:
        pair.client, pair.server = pair.server, pair.client
    request = object()
    request_id = pair.client.request(b"prepare", request, 0)
    assert len(pair.client.requests.open) == 1
    (asked,) = pair.to_server()
    assert isinstance(asked, IlpRequest)
    assert (asked.request_id, asked.ilp, asked.packet_id) == (request_id, b"prepare", 0)
    pair.server.respond(asked.request_id, b"fulfill")
    (answered,) = pair.to_client()
    assert isinstance(answered, IlpAnswer)
    assert answered.request is request
    assert answered.ilp == b"fulfill"
    assert pair.client.requests.open == []


def test_answers_may_come_in_any_order() -> None:
    pair = with_packet_ids()
    for name in "abc":
        pair.client.request(name.encode(), name, 0)
    asked = pair.to_server()
    for event in reversed(asked):
        pair.server.respond(event.request_id, event.ilp.upper())
    answers = [(event.request, event.ilp) for event in pair.to_client()]
    assert answers == [("c", b"C"), ("b", b"B"), ("a", b"A")]


def test_only_the_first_answer_counts() -> None:
    pair = with_packet_ids()
    request_id = pair.client.request(b"prepare", "r", 0)
    pair.to_server()
    pair.server.respond(request_id, b"first")
    pair.server.respond(request_id, b"second")
    first, second = pair.to_client()
    assert first.ilp == b"first"
    assert second == Ignored("answer without a request")


def test_an_answer_that_nobody_waits_for_any_more_is_ignored() -> None:
    pair = with_packet_ids()
    request_id = pair.client.request(b"prepare", "r", 0)
    pair.to_server()
    pair.client.requests.forget({"r"})
    pair.client.requests.forget({"r"})
    assert pair.client.requests.open == []
    pair.server.respond(request_id, b"late")
    assert pair.to_client() == [Ignored("answer without a request")]


@pytest.mark.parametrize(
    ("answer", "ilp"),
    [
        (encode_ilp(RESPONSE, 0, b"x"), b"x"),
        (encode_ilp(RESPONSE, 0, b"x", 9), b"x"),
        (message(octets("custom"), octets("ilp", b"x"), kind=RESPONSE, request_id=0), b"x"),
        (encode_empty_response(0), None),
        (message(octets("custom"), kind=RESPONSE, request_id=0), None),
        (error(0), None),
    ],
)
def test_an_answer_holds_ilp_or_is_none(answer: bytes, ilp: bytes | None) -> None:
    one = in_state(State.OPEN)
    request_id = one.request(b"prepare", "r", 0)
    assert request_id == 0
    event = one.receive(answer)
    assert isinstance(event, IlpAnswer)
    assert (event.request, event.ilp) == ("r", ilp)
    assert one.requests.open == []


def test_an_unreadable_answer_leaves_the_request_open() -> None:
    one = in_state(State.OPEN)
    one.request(b"prepare", "r", 0)
    with pytest.raises(DecodeError):
        one.receive(encode_ilp(RESPONSE, 0, b"x")[:-1])
    one.close()
    assert one.requests.open == ["r"]


def test_closing_leaves_open_what_has_no_answer() -> None:
    pair = with_packet_ids()
    for name in "abc":
        pair.client.request(name.encode(), name, 0)
    second = pair.to_server()[1]
    pair.server.respond(second.request_id, b"x")
    pair.to_client()
    pair.client.close()
    assert pair.client.state is State.CLOSED
    assert pair.client.requests.open == ["a", "c"]
    assert pair.client.requests.clear() == ["a", "c"]
    assert pair.client.requests.clear() == []


def test_an_answer_after_the_requests_were_given_up_is_ignored() -> None:
    pair = with_packet_ids()
    request_id = pair.client.request(b"prepare", "r", 0)
    pair.client.close()
    pair.client.requests.clear()
    pair.server.respond(request_id, b"late")
    assert pair.to_client() == [Ignored("answer without a request")]


# --- requests of one peer over several connections


def joined(requests: Requests) -> Pair:
    """An open pair; the client shares its requests with others."""
    pair = with_packet_ids()
    pair.client.join(requests)
    return pair


def test_request_ids_are_unique_over_all_connections_to_a_peer() -> None:
    requests = Requests(7)
    first, second = joined(requests), joined(requests)
    ids = [one.client.request(b"x", n, 0) for n, one in enumerate((first, second, first))]
    assert ids == [7, 8, 9]


@pytest.mark.parametrize("first_is_gone", [False, True])
def test_an_answer_over_another_connection_to_the_peer_counts(*, first_is_gone: bool) -> None:
    """ilp-plugin-btp answers over the connection that it dialled."""
    requests = Requests(7)
    first, second = joined(requests), joined(requests)
    request_id = first.client.request(b"prepare", "r", 0)
    if first_is_gone:
        first.client.close()
    second.server.respond(request_id, b"answer")
    (event,) = second.to_client()
    assert isinstance(event, IlpAnswer)
    assert (event.request, event.ilp) == ("r", b"answer")
    assert requests.open == []


@pytest.mark.parametrize("which", [0, 1])
def test_a_resent_request_is_answered_once_under_any_of_its_ids(which: int) -> None:
    requests = Requests(7)
    first, second = joined(requests), joined(requests)
    ids = [first.client.request(b"prepare", "r", 1)]
    requests.before_resending()
    ids.append(second.client.request(b"prepare", "r", 1, again=True))
    requests.resent("r", ids[1])
    assert requests.open == ["r"]
    second.server.respond(ids[which], b"answer")
    second.server.respond(ids[1 - which], b"answer")
    answer, ignored = second.to_client()
    assert isinstance(answer, IlpAnswer)
    assert ignored == Ignored("answer without a request")
    assert (requests.by_id, requests.ids_of_resent) == ({}, {})


def test_the_ids_of_one_request_are_bounded() -> None:
    requests = Requests(7)
    one = joined(requests).client
    one.request(b"prepare", "r", 1)
    for _ in range(100):
        requests.before_resending()
        requests.resent("r", one.request(b"prepare", "r", 1, again=True))
    assert len(requests.by_id) == bounds.REQUEST_IDS_OF_ONE_PACKET_MAX
    requests.forget({"r"})
    assert (requests.by_id, requests.ids_of_resent) == ({}, {})


def test_a_connection_knows_how_many_answers_it_owes() -> None:
    pair = with_packet_ids()
    for name in "ab":
        pair.client.request(name.encode(), name, 1)
    pair.client.request(b"c", "c", 1, again=True)
    asked = pair.to_server()
    assert pair.server.owed == 3
    for event in asked:
        pair.server.respond(event.request_id, b"x")
    assert pair.server.owed == 0


# --- request ids


def test_request_ids_count_up_and_start_again_after_the_last() -> None:
    pair = Pair(client_first_id=2**32 - 2).log_in()
    ids = [pair.client.request(b"x", n, 0) for n in range(3)]
    assert ids == [2**32 - 1, 0, 1]
    assert [event.request_id for event in pair.to_server()] == ids


def test_the_first_request_id_is_taken_modulo_their_number() -> None:
    one = session(2**32 + 5)
    one.log_in("a", "b")
    assert decode(one.take_outgoing()[0]).request_id == 5


def test_an_id_in_flight_is_stepped_over() -> None:
    """After 2**32 requests an old one may still be open; here it is made so."""
    one = in_state(State.OPEN)
    assert [one.request(b"x", n, 0) for n in range(3)] == [0, 1, 2]
    one.requests.forget({1})
    one.requests.next_id = 0
    assert [one.request(b"x", n, 0) for n in range(2)] == [1, 3]
    one.requests.by_id[2**32 - 1] = "the last"
    one.requests.next_id = 2**32 - 1
    assert one.request(b"x", "r", 0) == 4


# --- requests in other forms


def test_ilp_may_come_with_protocols_that_nobody_knows() -> None:
    one = in_state(State.OPEN)
    event = one.receive(message(octets("ilp", b"x"), octets("custom", b"y")))
    assert isinstance(event, IlpRequest)
    assert (event.request_id, event.ilp, event.packet_id) == (5, b"x", 0)


def test_an_empty_message_is_acknowledged() -> None:
    """JS peers use it as a sign of life."""
    one = in_state(State.OPEN)
    assert one.receive(message()) == Ignored("empty Message")
    assert one.take_outgoing() == [encode_empty_response(5)]


def test_an_unknown_primary_protocol_is_answered_with_an_error() -> None:
    one = in_state(State.OPEN)
    assert one.receive(message(octets("custom"))) == Ignored("unknown primary protocol")
    answer = sent_error(one)
    assert (answer.request_id, answer.code) == (5, "F00")
    assert one.state is State.OPEN


@pytest.mark.parametrize("protocols", [(), (octets("ilp", b"x"),)])
def test_a_btp_transfer_is_refused_so_that_no_balance_changes(
    protocols: tuple[Protocol, ...],
) -> None:
    one = in_state(State.OPEN)
    assert one.receive(message(*protocols, kind=TRANSFER)) == Ignored("BTP Transfer")
    answer = sent_error(one)
    assert (answer.request_id, answer.code) == (5, "F00")
    assert one.state is State.OPEN


def test_a_transfer_whose_amount_looks_like_ilp_is_still_a_transfer() -> None:
    one = in_state(State.OPEN)
    body = b"\x01\x01\x03ilp\x00\x02" + b"\x01\x00"
    octets_ = bytes((TRANSFER, 0, 0, 0, 5, len(body))) + body
    assert decode(octets_).amount == int.from_bytes(b"\x01\x01\x03ilp\x00\x02", "big")
    assert one.receive(octets_) == Ignored("BTP Transfer")


def test_an_unknown_type_that_carries_ilp_is_refused() -> None:
    one = in_state(State.OPEN)
    with pytest.raises(DecodeError, match="unknown type 5"):
        one.receive(encode_ilp(5, 1, b"x"))


# --- packet ids


@pytest.mark.parametrize("packet_id", [1, 2**64, 2**128 - 1])
def test_a_packet_id_travels_when_both_sides_know_it(packet_id: int) -> None:
    pair = with_packet_ids()
    pair.client.request(b"prepare", "r", packet_id)
    pair.server.request(b"prepare", "r", packet_id)
    assert [event.packet_id for event in pair.to_server()] == [packet_id]
    assert [event.packet_id for event in pair.to_client()] == [packet_id]


def test_a_packet_id_beside_other_protocols_is_read() -> None:
    pair = with_packet_ids()
    event = pair.server.receive(
        message(octets("ilp", b"x"), octets("custom"), octets("packet-id", bytes(15) + b"\x07"))
    )
    assert (event.ilp, event.packet_id) == (b"x", 7)


@pytest.mark.parametrize("data", [b"", bytes(15), b"\x01" * 17])
def test_a_packet_id_of_another_size_counts_as_none(data: bytes) -> None:
    pair = with_packet_ids()
    event = pair.server.receive(message(octets("ilp", b"x"), octets("packet-id", data)))
    assert (event.ilp, event.packet_id) == (b"x", 0)


def test_a_packet_id_is_neither_sent_to_nor_taken_from_who_did_not_say_that_it_knows_it() -> None:
    one = in_state(State.OPEN)
    assert not one.resumable
    one.request(b"prepare", "r", 42)
    assert one.take_outgoing() == [encode_ilp(MESSAGE, 0, b"prepare")]
    short = one.receive(encode_ilp(MESSAGE, 5, b"x", 42))
    assert (short.ilp, short.packet_id) == (b"x", 0)
    long = one.receive(
        message(octets("ilp", b"x"), octets("custom"), octets("packet-id", bytes(15) + b"\x07"))
    )
    assert (long.ilp, long.packet_id) == (b"x", 0)


def test_a_packet_that_was_perhaps_sent_before_says_so() -> None:
    pair = with_packet_ids()
    pair.client.request(b"prepare", "r", 42, again=True)
    (sent,) = pair.client.take_outgoing()
    event = pair.server.receive(sent)
    assert (event.ilp, event.packet_id, event.again) == (b"prepare", 42, True)
    pair.client.request(b"prepare", "r", 43)
    (sent,) = pair.client.take_outgoing()
    assert not pair.server.receive(sent).again


def test_only_with_an_id_it_says_that_it_was_perhaps_sent_before() -> None:
    """It is not sent to a peer without packet ids, and has no effect in a packet without one."""
    one = in_state(State.OPEN)
    one.request(b"prepare", "r", 42, again=True)
    assert one.take_outgoing() == [encode_ilp(MESSAGE, 0, b"prepare")]
    pair = with_packet_ids()
    event = pair.server.receive(message(octets("ilp", b"x"), octets("packet-again")))
    assert (event.packet_id, event.again) == (0, False)


def test_an_answer_never_carries_a_packet_id() -> None:
    pair = with_packet_ids()
    pair.server.respond(3, b"x")
    assert pair.server.take_outgoing() == [encode_ilp(RESPONSE, 3, b"x")]


def test_the_kind_of_every_packet_is_known_to_the_tests() -> None:
    assert {RESPONSE, ERROR, MESSAGE, TRANSFER} == {1, 2, 6, 7}
