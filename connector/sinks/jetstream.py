"""NATS JetStream: each event is a message of a stream, with its number as `Nats-Msg-Id`.

The server drops a message whose id it has had within the stream's duplicate window. The subject is
`<SINK_NATS_SUBJECT>.<node id>.<type in lower case>`. A stream that is missing is made.

The client's own reconnecting is off: after any failure the connection is closed, and the next attempt makes another.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from connector.sinks import bounds
from connector.sinks.port import Record, Refused, SinkError, fault_text

_HEADER_BYTES: Final = 512
"""More than the headers of a message take."""


class JetStreamSink:
    """See the module."""

    name = "nats"

    def __init__(
        self, urls: str, *, subject: str, stream: str, node_id: str, tls_ca: Path | None = None
    ) -> None:
        """No connection is made yet; needs the library `nats-py`.

        Args:
            urls: `nats://user:password@host:4222` or `tls://`, several divided by commas.
            subject: with which the subject of each message begins.
            stream: its name; made if it is missing.
            node_id: of the events.
            tls_ca: a PEM file with the authorities that are trusted; None: those of the system.
        """
        self._servers: Final = [one.strip() for one in urls.split(",") if one.strip()]
        parts = [urlsplit(one) for one in self._servers]
        self.place = ",".join(f"{one.scheme}://{one.netloc.rpartition('@')[2]}" for one in parts)
        self._secrets: Final = [
            text
            for one in parts
            for raw in (one.password, None if one.password else one.username)
            if raw
            for text in (raw, unquote(raw))
        ]
        self._uses_tls: Final = any(one.scheme == "tls" for one in parts) or tls_ca is not None
        self._subject: Final = subject
        self._stream: Final = stream
        self._node_id: Final = node_id
        self._tls_ca: Final = tls_ca
        self._client: Any = None
        self._jetstream: Any = None
        self._sent: list[asyncio.Future[Any]] = []
        """Acknowledgements of the batch under way."""
        self._last: list[BaseException] = []
        """What the client said last, of this connection."""

    async def close(self) -> None:
        """See `Sink`."""
        client, self._client = self._client, None
        if client is not None:
            # It waits for what it has to send; a server that does not read must not hold us.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(bounds.CLOSE_SECONDS_MAX):
                    await client.close()
            _cut(client)

    async def deliver(self, records: Sequence[Record]) -> Sequence[Refused]:
        """See `Sink`."""
        try:
            if self._client is None or not self._client.is_connected:
                await self._connect()
            from nats.js.errors import NoStreamResponseError  # noqa: PLC0415 - an optional library

            async with asyncio.timeout(bounds.DELIVER_SECONDS_MAX):
                try:
                    return await self._publish(records)
                except NoStreamResponseError:
                    await self._make_stream()
                    return await self._publish(records)
        except SinkError:
            await self.close()
            raise
        except TimeoutError:
            await self.close()
            # Such as that we may not publish there: then there is no other answer.
            said = f": {self._words(self._last[0])}" if self._last else ""
            raise SinkError(f"no answer within {bounds.DELIVER_SECONDS_MAX:g} s{said}") from None
        except asyncio.CancelledError:
            await self.close()
            raise
        except Exception as error:
            await self.close()
            raise SinkError(self._words(error)) from error

    def _words(self, error: BaseException) -> str:
        return fault_text(str(error) or type(error).__name__, self._secrets)

    async def _connect(self) -> None:
        # In a thread: packets do not wait for a library to be read.
        await asyncio.to_thread(importlib.import_module, "nats.js.errors")
        from nats.aio.client import Client  # noqa: PLC0415 - an optional library

        await self.close()
        client = self._client = Client()
        last = self._last = []

        async def note(error: Exception) -> None:
            last[:] = [error]

        async def closed() -> None:
            # The client would leave us waiting for acknowledgements until the time is over.
            for one in self._sent if self._client is client else ():
                if not one.done():
                    one.set_exception(SinkError("the connection broke"))

        tls = None
        if self._uses_tls:
            tls = await asyncio.to_thread(ssl.create_default_context, cafile=self._tls_ca)
        try:
            async with asyncio.timeout(bounds.CONNECT_SECONDS_MAX):
                await client.connect(
                    self._servers,
                    name=f"ilp-connector {self._node_id}",
                    error_cb=note,
                    closed_cb=closed,
                    allow_reconnect=False,
                    # Else it would go on for as long as we let it; each server twice, to be exact.
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=int(bounds.CONNECT_SECONDS_MAX),
                    tls=tls,
                )
        except TimeoutError:
            raise SinkError("no connection in time") from None
        except Exception as error:
            raise SinkError(self._words(last[0] if last else error)) from error
        self._jetstream = client.jetstream(timeout=bounds.DELIVER_SECONDS_MAX)

    async def _make_stream(self) -> None:
        """Make the stream, since none takes our subjects; a user who only publishes needs no right to."""
        from nats.js.api import DiscardPolicy, StorageType, StreamConfig  # noqa: PLC0415

        try:
            await self._jetstream.add_stream(
                StreamConfig(
                    name=self._stream,
                    subjects=[f"{self._subject}.>"],
                    storage=StorageType.FILE,
                    discard=DiscardPolicy.OLD,
                    max_bytes=bounds.STREAM_BYTES_MAX,
                    duplicate_window=bounds.STREAM_DUPLICATES_SECONDS,
                )
            )
        except TimeoutError:
            raise
        except Exception as error:
            raise SinkError(
                f"no stream takes {self._subject}.> and {self._stream} cannot be made: "
                f"{self._words(error)}"
            ) from error

    async def _publish(self, records: Sequence[Record]) -> list[Refused]:
        size_max = self._client.max_payload - _HEADER_BYTES
        refused: list[Refused] = []
        sent = self._sent = []
        try:
            for at, record in enumerate(records):
                payload = record.text.encode()
                if len(payload) > size_max:
                    refused.append(
                        Refused(record, f"{len(payload)} octets: the server takes {size_max}")
                    )
                    continue
                sent.append(
                    await self._jetstream.publish_async(
                        f"{self._subject}.{self._node_id}.{record.type.lower()}",
                        payload,
                        stream=self._stream,
                        headers={"Nats-Msg-Id": f"{self._node_id}-{record.seq}"},
                    )
                )
                if at % bounds.PUBLISHED_AT_ONCE == 0:
                    await asyncio.sleep(0)  # packets come first
            for one in sent:
                await one
        finally:
            for one in sent:
                if not one.done():
                    one.cancel()
                elif not one.cancelled():
                    one.exception()  # it was looked at
        return refused


def _cut(client: Any) -> None:
    """Close the socket of a client that could not be closed in time."""
    transport = getattr(client, "_transport", None)
    if transport is not None:
        with contextlib.suppress(Exception):
            transport.close()
