"""A webhook: batches of events, POSTed as JSON and signed (standardwebhooks.com).

Headers: `webhook-id`, `webhook-timestamp` (seconds since the epoch), `webhook-signature`: `v1,` and the base64 of
HMAC-SHA256 of `<id>.<timestamp>.<body>`. Redirects are not followed: nothing is sent to a place that is not configured.

**Which refusals are for good.** The answers `REFUSED` say that the content is at fault, but a wrong secret or clock has
the same answers. So an empty delivery is made: a server that accepts it refuses the events, and it is
looked for those, in halves; these are dead letters. A server that refuses the empty one is not set up: all is tried
again, and nothing is given up. The same after several answers 500 in a row: perhaps one event makes the server fail.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

from connector.base.errors import HttpError
from connector.base.http import HttpAnswer, HttpClient, Transport
from connector.sinks import bounds
from connector.sinks.port import Record, Refused, SinkError, fault_text

REFUSED: Final = frozenset((400, 409, 413, 422))
_ERROR: Final = 500
_PREFIX: Final = "whsec_"


class WebhookSink:
    """See the module."""

    name = "webhook"

    def __init__(
        self,
        url: str,
        *,
        secret: str,
        node_id: str,
        now_ms: Callable[[], int],
        transport: Transport | None = None,
    ) -> None:
        """No connection is made yet.

        Args:
            url: http or https.
            secret: signs; `whsec_` and base64, or any text.
            node_id: of the events.
            now_ms: milliseconds since the epoch.
            transport: replaces the network in tests.
        """
        parts = urlsplit(url)
        self.place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._secrets: Final = [unquote(part) for part in (parts.password, parts.query) if part]
        self._url: Final = url
        self._key: Final = secret_octets(secret)
        self._node_id: Final = node_id
        self._now_ms: Final = now_ms
        self._errors = 0
        """Answers 500 in a row."""
        self._client: Final = HttpClient(
            seconds_max=bounds.WEBHOOK_SECONDS_MAX,
            answer_bytes_max=bounds.WEBHOOK_ANSWER_BYTES_MAX,
            connections_max=1,
            gzip=False,
            transport=transport,
        )

    async def close(self) -> None:
        """See `Sink`."""
        await self._client.close()

    async def deliver(self, records: Sequence[Record]) -> Sequence[Refused]:
        """See `Sink`."""
        try:
            status = await self._post(records)
        except SinkError:
            self._errors = 0
            raise
        if _is_ok(status):
            self._errors = 0
            return ()
        if status == _ERROR:
            self._errors += 1
            if self._errors < bounds.WEBHOOK_ERRORS_MAX:
                raise SinkError(f"the answer is HTTP {status}")
        probe = await self._post(())
        if not _is_ok(probe):
            raise SinkError(f"the answer is HTTP {status}, to an empty delivery HTTP {probe}")
        refused = await self._split(records, status)
        self._errors = 0
        return refused

    async def _split(self, records: Sequence[Record], status: int) -> list[Refused]:
        """Deliver in halves what was refused with `status`; returns those that are refused alone."""
        if len(records) == 1:
            return [Refused(records[0], f"HTTP {status}")]
        refused = []
        middle = len(records) // 2
        for part in (records[:middle], records[middle:]):
            answer = await self._post(part)
            if not _is_ok(answer):
                refused += await self._split(part, answer)
        return refused

    async def _post(self, records: Sequence[Record]) -> int:
        """Deliver these; returns a status of success, one of REFUSED, or 500.

        Raises:
            SinkError: any other answer, or none.
        """
        now_s = self._now_ms() // 1000
        ends = f"{records[0].seq}-{records[-1].seq}" if records else "probe"
        id_ = f"{self._node_id}-{ends}"
        content = f'{{"events":[{",".join(one.text for one in records)}]}}'.encode()
        signature = hmac.digest(self._key, f"{id_}.{now_s}.".encode() + content, "sha256")
        headers = {
            "Content-Type": "application/json",
            "webhook-id": id_,
            "webhook-timestamp": str(now_s),
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }
        try:
            answer = await self._client.ask("POST", self._url, content=content, headers=headers)
        except HttpError as error:
            raise SinkError(fault_text(str(error), self._secrets)) from error
        if answer.ok or answer.status in REFUSED or answer.status == _ERROR:
            return answer.status
        redirected = "; redirects are not followed" if 300 <= answer.status < 400 else ""
        raise SinkError(f"the answer is HTTP {answer.status}{redirected}", _retry_after_s(answer))


def _is_ok(status: int) -> bool:
    return 200 <= status < 300


def secret_octets(text: str) -> bytes:
    """The key of a secret: after `whsec_` base64, else the text itself.

    Raises:
        ValueError: what follows `whsec_` is not base64.
    """
    if not text.startswith(_PREFIX):
        return text.encode()
    return base64.b64decode(text.removeprefix(_PREFIX), validate=True)


def _retry_after_s(answer: HttpAnswer) -> float:
    """What the server asks us to wait, in seconds; a date is not heeded."""
    text = answer.headers.get("retry-after", "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        return 0.0
    return min(float(text), bounds.RETRY_AFTER_SECONDS_MAX)
