"""Wrong keys per source address: counted, logged, and after too many answered 429.

The right key is always accepted: others at the same address (a proxy, a shared network) must not lock
its owner out. A key is protected by its length, not by the throttle.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from enum import Enum, auto

from connector.base import limits
from connector.base.clock import Clock
from connector.base.connections import network_of
from connector.base.log import Log, Sampler


class Denied(Enum):
    """Why a key is not accepted."""

    NO_KEY = auto()
    """The request has no key."""
    WRONG_KEY = auto()
    THROTTLED = auto()
    """Wrong, and too many wrong keys came from this address."""


class Throttle:
    """Wrong keys per source address: a token bucket each."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, source: str, now_s: float) -> float:
        """Seconds until a wrong key from `source` is answered as such again; 0: now."""
        left = self._left(source, now_s)
        return 0.0 if left >= 1.0 else (1.0 - left) * limits.HTTP_WRONG_KEY_SECONDS

    def failed(self, source: str, now_s: float) -> None:
        """Count a wrong key. Of too many sources, the one that failed longest ago is forgotten."""
        self._buckets[source] = self._left(source, now_s) - 1.0, now_s
        self._buckets.move_to_end(source)
        if len(self._buckets) > limits.HTTP_THROTTLED_SOURCES_MAX:
            self._buckets.popitem(last=False)

    def _left(self, source: str, now_s: float) -> float:
        left, at_s = self._buckets.get(source, (float(limits.HTTP_WRONG_KEYS_MAX), now_s))
        gained = (now_s - at_s) / limits.HTTP_WRONG_KEY_SECONDS
        return min(float(limits.HTTP_WRONG_KEYS_MAX), left + gained)

    def __len__(self) -> int:
        return len(self._buckets)


class WrongKeys:
    """Counts and logs wrong keys of one kind."""

    def __init__(self, *, clock: Clock, log: Log) -> None:
        self.count = 0
        """Since the start."""
        self._clock = clock
        self._log = log
        self._throttle = Throttle()
        self._said = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)

    def deny(self, source: str) -> Denied:
        """Count a wrong key; it is logged until its address is throttled."""
        now_s = self._clock.monotonic_s()
        source = network_of(source)
        self.count += 1
        if self._throttle.wait_s(source, now_s):
            return Denied.THROTTLED
        self._throttle.failed(source, now_s)
        suppressed = self._said.allow(now_s)
        if suppressed is not None:
            self._log.warning(
                "http_authentication_failed",
                remote=source,
                throttled=self._throttle.wait_s(source, now_s) > 0,
                suppressed=suppressed,
            )
        return Denied.WRONG_KEY

    def retry_after_s(self, source: str) -> int:
        """Whole seconds until a wrong key from a throttled `source` is answered as such again."""
        return int(self._throttle.wait_s(network_of(source), self._clock.monotonic_s())) + 1


def digest(key: str) -> bytes:
    """A key as it is compared. Digests have one length: a comparison does not reveal the key's."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def is_same(given: str, right: str) -> bool:
    """Whether a key is the right one, in constant time."""
    return hmac.compare_digest(digest(given), digest(right))
