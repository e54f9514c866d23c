"""HTTP/1.1 whose heads and trailers are bounded, on either side of a connection.

A line of four octets takes the library up to 30 us, and it parses a whole head in one go, however much has come; so it
does with the lines behind the last chunk of a body (trailers). Those are bounded where a read is handed over in small parts.
"""

from __future__ import annotations

from typing import Any, Final

import h11

HEAD_LINES_MAX: Final = 128
TRAILERS_BYTES_MAX: Final = 2048
"""Of what has come of them, or of the line before a chunk, and is not whole."""


class BoundedHeads(h11.Connection):
    """A connection that refuses a head with more lines before it is parsed, and trailers that are longer."""

    def next_event(self) -> Any:
        """See `h11.Connection`.

        Raises:
            h11.RemoteProtocolError: also for too many lines, or trailers.
        """
        if self.their_state in (h11.IDLE, h11.SEND_RESPONSE):
            head, _ = self.trailing_data
            end = head.find(b"\r\n\r\n")
            if head.count(b"\n", 0, end if end >= 0 else len(head)) > HEAD_LINES_MAX:
                raise h11.RemoteProtocolError("too many headers", error_status_hint=431)
        event = super().next_event()
        if event is h11.NEED_DATA and self.their_state is h11.SEND_BODY:
            # Data is never left: these are the lines behind the last chunk, or the line before one.
            left, _ = self.trailing_data
            if len(left) > TRAILERS_BYTES_MAX:
                raise h11.RemoteProtocolError("too many trailers")
        return event
