"""All sinks of a node: made from its settings, run, watched, and shown."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import Sequence
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.disk import Disk
from connector.base.errors import UnknownNameError
from connector.base.log import Log
from connector.base.randomness import Randomness
from connector.settings.model import Settings
from connector.sinks import bounds
from connector.sinks.dead import FILE_NAME, DeadLetter, DeadLetters
from connector.sinks.jetstream import JetStreamSink
from connector.sinks.port import Sink
from connector.sinks.postgres import PostgresSink
from connector.sinks.runner import Runner
from connector.sinks.selection import CALM, chosen_types, known_names
from connector.sinks.webhook import WebhookSink, secret_octets
from connector.telemetry.bus import EventBus
from connector.telemetry.events import iso
from connector.telemetry.store import EventStore
from connector.telemetry.store_file import CODES

_LIBRARIES: Final = (
    ("sink_nats_url", "nats", "nats-py", "nats"),
    ("sink_postgres_url", "asyncpg", "asyncpg", "postgres"),
)


def sink_faults(settings: Settings) -> list[str]:
    """What is wrong with the settings of sinks on this machine; see `node.preflight`."""
    faults = []
    for field, module, library, extra in _LIBRARIES:
        if getattr(settings, field) is not None and importlib.util.find_spec(module) is None:
            faults.append(
                f"{field.upper()} needs the library {library}: pip install 'ilp-connector[{extra}]'"
            )
    for field in ("sink_webhook_events", "sink_nats_events", "sink_postgres_events"):
        for name in getattr(settings, field):
            try:
                chosen_types([name])
            except KeyError:
                faults.append(
                    f"{field.upper()}: {name!r} is neither a type of events nor one of {known_names()}"
                )
    if settings.sink_webhook_secret is not None:
        try:
            secret_octets(settings.sink_webhook_secret.get_secret_value())
        except ValueError:
            faults.append("SINK_WEBHOOK_SECRET begins with whsec_, and what follows is not base64")
    return faults


def make_sinks(
    settings: Settings, clock: Clock, log: Log
) -> list[tuple[Sink, tuple[str, ...] | None]]:
    """The sinks of the settings, each with the types of events that it gets; None: all."""
    found: list[tuple[Sink, tuple[str, ...] | None]] = []
    node_id = settings.node_id
    if settings.sink_webhook_url is not None:
        assert settings.sink_webhook_secret is not None, "checked with the settings"
        webhook = WebhookSink(
            settings.sink_webhook_url,
            secret=settings.sink_webhook_secret.get_secret_value(),
            node_id=node_id,
            now_ms=clock.now_ms,
        )
        names = settings.sink_webhook_events
        found.append((webhook, chosen_types(names) if names else CALM))
    if settings.sink_nats_url is not None:
        nats = JetStreamSink(
            settings.sink_nats_url.get_secret_value(),
            subject=settings.sink_nats_subject,
            stream=settings.sink_nats_stream,
            node_id=node_id,
            tls_ca=settings.sink_nats_tls_ca,
        )
        found.append((nats, chosen_types(settings.sink_nats_events)))
    if settings.sink_postgres_url is not None:
        postgres = PostgresSink(
            settings.sink_postgres_url.get_secret_value(),
            table=settings.sink_postgres_table,
            node_id=node_id,
            log=log,
        )
        found.append((postgres, chosen_types(settings.sink_postgres_events)))
    return found


class Sinks:
    """See the module. Make it before the store is opened."""

    def __init__(
        self,
        sinks: Sequence[tuple[Sink, tuple[str, ...] | None]],
        *,
        settings: Settings,
        store: EventStore,
        bus: EventBus,
        disk: Disk,
        clock: Clock,
        randomness: Randomness,
        log: Log,
    ) -> None:
        """`sinks`: each with the types of events that it gets (`make_sinks`)."""
        self._log: Final = log
        self._lag_max_s: Final = settings.sink_lag_alert_seconds
        self._dead: Final = DeadLetters(
            disk.database(settings.data_dir / FILE_NAME), settings.sink_dead_letters_max_bytes
        )
        type_names = {code: name for name, code in CODES.items()}
        self.runners: Final = {
            sink.name: Runner(
                sink,
                types=types,
                type_names=type_names,
                source=store,
                numbers=bus,
                dead=self._dead,
                node_id=settings.node_id,
                clock=clock,
                randomness=randomness,
                log=log,
            )
            for sink, types in sinks
        }
        for name, runner in self.runners.items():
            store.add_reader(name, runner.types, runner.wake)
        if self.runners:
            bus.tell_lost(store.note_lost)
        self._late: set[str] = set()
        """Sinks that are further behind than is allowed, and were told of."""
        self._tasks: list[asyncio.Task[None]] = []

    # --- life

    def start(self, group: asyncio.TaskGroup) -> None:
        """Deliver, in tasks of `group`."""
        self._tasks = [group.create_task(one.run()) for one in self.runners.values()]
        if self._tasks:
            self._tasks.append(group.create_task(self._watch()))

    async def stop(self) -> None:
        """End the deliveries under way, for a while, and close. Safe to call when it never started."""
        for runner in self.runners.values():
            runner.stop()
        if self._tasks:
            self._tasks.pop().cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=bounds.STOP_SECONDS_MAX)
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self._tasks = []
        async with asyncio.TaskGroup() as group:
            for runner in self.runners.values():
                group.create_task(_closed(runner.sink))
        await self._dead.close()

    async def _watch(self) -> None:
        """Say which sinks have fallen behind, once each time."""
        while True:
            await asyncio.sleep(bounds.LOOK_SECONDS)
            for name, runner in self.runners.items():
                lag_s = runner.lag_seconds
                fields = {
                    "sink": name,
                    "lag_seconds": int(lag_s),
                    "lag_events": runner.lag_events,
                    "reason": runner.fault or None,
                }
                if lag_s > self._lag_max_s and name not in self._late:
                    self._late.add(name)
                    self._log.warning("sink_lags", **fields)
                elif lag_s <= self._lag_max_s and name in self._late:
                    self._late.discard(name)
                    self._log.info("sink_caught_up", **fields)

    # --- for the API

    def view(self) -> list[dict[str, Any]]:
        """How each sink is."""
        return [_shown(name, one) for name, one in self.runners.items()]

    def _known(self, name: str) -> Runner:
        if name not in self.runners:
            raise UnknownNameError(f"there is no sink {name[:64]!r}")
        return self.runners[name]

    async def dead_letters(
        self, name: str, cursor: str, count: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of dead letters, oldest first, and where the next one begins.

        Raises:
            UnknownNameError: there is no such sink.
            EnvironmentFault: the disk fails.
        """
        self._known(name)
        digits = cursor.isascii() and cursor.isdecimal() and len(cursor) < 19
        found = await self._dead.page(name, int(cursor) if digits else 0, count)
        following = str(found[-1].record.seq) if found else None
        return [_letter(one) for one in found], following

    async def deliver_again(self, name: str, seq: int | None) -> int:
        """Have a dead letter, or all of a sink, delivered again; returns how many.

        Raises:
            UnknownNameError: there is no such sink, or letter.
            EnvironmentFault: the disk fails.
        """
        runner = self._known(name)
        count = await self._dead.deliver_again(name, seq)
        if seq is not None and not count:
            raise UnknownNameError("no dead letter of this sink has this number")
        runner.deliver_dead_again()
        return count


async def _closed(sink: Sink) -> None:
    """Close a sink; what a library raises then helps nobody."""
    with contextlib.suppress(Exception):
        await sink.close()


def _shown(name: str, runner: Runner) -> dict[str, Any]:
    dead = runner.dead_counts
    return {
        "sink": name,
        "place": runner.sink.place,
        "events": None if runner.types is None else list(runner.types),
        "state": runner.state,
        "fault": runner.fault or None,
        "attempts": runner.failures,
        "nextAttemptAt": None if runner.next_ms is None else iso(runner.next_ms),
        "lastDeliveredAt": None if runner.last_ms is None else iso(runner.last_ms),
        "lagEvents": runner.lag_events,
        "lagSeconds": round(runner.lag_seconds, 3),
        "delivered": runner.delivered,
        "deliveredBytes": runner.octets,
        "retried": runner.retried,
        "refused": runner.refused,
        "missed": runner.missed,
        "deadLetters": dead.letters,
        "deadLetterBytes": dead.octets,
        "deadLettersLost": dead.lost,
    }


def _letter(one: DeadLetter) -> dict[str, Any]:
    return {
        "seq": one.record.seq,
        "type": one.record.type,
        "timestamp": iso(one.record.at_ms),
        "reason": one.reason,
        "refusedAt": iso(one.died_ms),
        "attempts": one.attempts,
        "again": one.again,
        "event": one.record.text,
    }
