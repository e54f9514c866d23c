"""An end like npm's ilp-plugin-btp where it listens and dials: it has two sockets with its node.

It sends everything over the one that it dialled, also the answers to what it is asked over the other.
It knows no packet ids.
"""

from __future__ import annotations

from typing import Any

from connector.simulation import octets
from connector.simulation.ends import End
from connector.simulation.transport import Transport


class PluginEnd(End):
    """See the module."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        assert not self.resumable, "the plugin knows no packet ids"
        self._network.listen(self.name, None, lambda: _Accepted(self))

    def reply(self, transport: Transport, request_id: int, answer: bytes) -> None:
        """Answer over the socket that it dialled, while it has one."""
        if self.connected_s is not None and self._transport is not None:
            super().reply(self._transport, request_id, answer)
        elif isinstance(transport.protocol, _Accepted):
            message = octets.btp_ilp(octets.RESPONSE, request_id, answer)
            transport.write(octets.server_frame(octets.BINARY, message))

    def came(self, message: bytes, transport: Transport) -> None:
        """A BTP packet has come over a socket that the node dialled."""
        packet = octets.read_btp(message)
        ilp = packet.protocols.get("ilp")
        if packet.kind != octets.MESSAGE:
            self.answered(packet, None if ilp is None else octets.read_ilp(ilp))
        elif ilp is not None:
            self.asked(packet, octets.read_ilp(ilp), transport)
        else:
            # A log-in, which is not looked at: only its node knows the address.
            response = octets.btp(octets.RESPONSE, packet.request_id, [])
            transport.write(octets.server_frame(octets.BINARY, response))


class _Accepted:
    """The end's side of a connection that its node has opened: an `asyncio.Protocol`."""

    def __init__(self, end: PluginEnd) -> None:
        self._end = end
        self._transport: Transport
        self._rest = b""
        self._upgraded = False

    def connection_made(self, transport: Transport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        buffer = self._rest + data
        if not self._upgraded:
            head, found, behind = buffer.partition(b"\r\n\r\n")
            if not found:
                self._rest = buffer
                return
            self._upgraded, buffer = True, behind
            self._transport.write(octets.upgrade_answer(head))
        frames, self._rest = octets.read_frames(buffer)
        for opcode, payload in frames:
            if opcode == octets.BINARY:
                self._end.came(payload, self._transport)
            elif opcode == octets.PING:
                self._transport.write(octets.server_frame(octets.PONG, payload))
            elif opcode == octets.CLOSE:
                self._transport.close()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
