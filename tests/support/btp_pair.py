"""Two BTP sessions joined back to back: what one has to send, the other receives."""

from __future__ import annotations

from connector.btp.session import AuthRequest, Event, LoggedIn, Session, State

NOW_MS = 1_700_000_000_123


def session(first_request_id: int = 0) -> Session:
    """A session at rest, whose clock stands still."""
    return Session(first_request_id=first_request_id, now_ms=lambda: NOW_MS)


class Pair:
    """A dialling and a listening session."""

    def __init__(self, *, client_first_id: int = 100, server_first_id: int = 900) -> None:
        self.client = session(client_first_id)
        self.server = session(server_first_id)

    def to_server(self) -> list[Event]:
        """Deliver everything the client has to send; what the server makes of it."""
        return [self.server.receive(octets) for octets in self.client.take_outgoing()]

    def to_client(self) -> list[Event]:
        """Deliver everything the server has to send; what the client makes of it."""
        return [self.client.receive(octets) for octets in self.server.take_outgoing()]

    def ask_to_log_in(self, username: str = "alice", token: str = "secret") -> AuthRequest:
        """The log-in as the server sees it."""
        self.client.log_in(username, token)
        (event,) = self.to_server()
        assert isinstance(event, AuthRequest)
        return event

    def log_in(self) -> Pair:
        """Go through the log-in until both sides are open."""
        self.server.accept(self.ask_to_log_in())
        assert self.to_client() == [LoggedIn()]
        assert self.client.state is self.server.state is State.OPEN
        return self


def with_packet_ids() -> Pair:
    """An open pair in which both sides know packet ids."""
    pair = Pair().log_in()
    assert pair.client.resumable
    assert pair.server.resumable
    return pair
