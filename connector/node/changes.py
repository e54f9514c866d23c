"""Changes by an operator while the node runs: checked as a whole, stored, applied, and logged.

A change is a step from one overlay to another (`settings.overlay`). It is validated like a
configuration, then written to disk, then applied (`node.apply`), and reverted on disk if the ledger
refuses it. Changes are made one at a time. Each is reported as an `ADMIN_ACTION` event and a log
line with the fingerprint of the key, also if it was refused, or if the process ended before that (`node.unrecorded`).

Long because every operation of the admin API has its documented method here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic.alias_generators import to_camel

from connector.accounting.manager import AccountManager
from connector.base.errors import (
    ConflictError,
    ConnectorError,
    CreditInUseError,
    EnvironmentFault,
)
from connector.base.log import Log
from connector.node import bounds
from connector.node.apply import LeftBehind, SettingsApplier, routes_of
from connector.node.preview import AMOUNT_FIELDS, Preview, Standing, preview_of
from connector.node.steps import Step, Steps
from connector.node.unrecorded import FILE_NAME as PENDING_FILE
from connector.node.unrecorded import About, Unrecorded
from connector.peering.routing import Route, RouteSource
from connector.settings.faults import SECRETS
from connector.settings.model import PeerSettings, RouteSettings, Settings
from connector.settings.overlay import InEffect, Overlay
from connector.settings.terms import terms_of
from connector.telemetry.events import AdminAction, Event, cut, iso_seconds
from connector.web.operating import CALLER, Caller

_CUT_OFF: Final = (
    "ok: in effect since this start; the process that made it ended before it had recorded it"
)
_DRAIN_POLL_SECONDS: Final = 0.05
_DRAIN_MARGIN_SECONDS: Final = 1.0


async def _nothing_to_wait_for() -> bool:
    return True


class _NotKeptError(EnvironmentFault):
    """A change is not on disk."""


class OperatorChanges:
    """The run-time changes of one node; implements `NodeAdmin`."""

    def __init__(
        self,
        *,
        found: InEffect,
        path: Path,
        applier: SettingsApplier,
        accounts: AccountManager,
        answer_given: Callable[[str, int], bytes | None],
        changed: Callable[[], None],
        fingerprint: Callable[[], str],
        emit: Callable[[Event], None],
        log: Log,
        announced_to: Callable[[Route], list[str]] = lambda _route: [],
        now_ms: Callable[[], int] = lambda: 0,
        recorded: Callable[[], Awaitable[bool]] = _nothing_to_wait_for,
    ) -> None:
        """Nothing is changed yet.

        Args:
            found: the configuration, and the changes of earlier runs.
            path: the file that changes are stored in.
            applier: applies them.
            accounts: for balances and limits.
            answer_given: the answer to a packet that is still in memory, by source and packet id.
            changed: called when the settings in effect have changed.
            fingerprint: returns the fingerprint of the admin key.
            emit: takes events.
            log: for an entry per change.
            announced_to: the neighbours that a route is announced to.
            now_ms: the time, for former secrets.
            recorded: returns when all events up to the call are on disk; whether they are.
        """
        self._recorded = recorded
        self._unrecorded = Unrecorded(path.with_name(PENDING_FILE))
        self._now_ms = now_ms
        self._ending: asyncio.Task[None] | None = None
        self._recording: asyncio.Task[None] | None = None
        self.overlay = found.overlay
        self._base = found.base
        self._path = path
        self._applier = applier
        self._accounts = accounts
        self._answer_given = answer_given
        self._changed = changed
        self._fingerprint = fingerprint
        self._emit = emit
        self._log = log
        self._announced_to = announced_to
        self._steps = Steps(
            base=found.base, settings=lambda: applier.settings, is_removed=self._is_removed
        )
        self._one_at_a_time = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None
        self._finishing: dict[str, asyncio.Task[LeftBehind | ConnectorError]] = {}
        """Removals that wait for packets, by peer."""
        applier.go_on_draining(self.overlay.draining_peers)

    @property
    def steps(self) -> Steps:
        """Makes the steps that `preview` takes."""
        return self._steps

    # --- the peers and routes in effect

    def peer(self, peer_id: str) -> PeerSettings:
        """The settings in effect of a peer.

        Raises:
            UnknownNameError: there is no such peer.
        """
        return self._steps.peer(peer_id)

    def peer_view(self, peer: PeerSettings) -> dict[str, Any]:
        """A peer in JSON for the admin API: everything but its secrets, amounts as text."""
        terms = terms_of(self._applier.settings, peer)
        view: dict[str, Any] = {
            to_camel(name): str(value)
            if (value := getattr(peer, name)) is not None and name in AMOUNT_FIELDS
            else value
            for name in PeerSettings.model_fields
            if name not in SECRETS
        }
        # Defaults are included, so that all limits in effect are shown.
        view["assetCode"] = terms.asset.code
        view["assetScale"] = terms.asset.scale
        view["creditLimit"] = str(terms.credit_limit)
        view["maxPrepaid"] = str(terms.max_prepaid)
        view["feeBasisPoints"] = terms.fee_basis_points
        of_base = any(one.id == peer.id for one in self._base.peers)
        changes = self.overlay.peers.get(peer.id, {})
        view["settlementTokenSet"] = peer.settlement_token is not None
        view["httpTokenSet"] = peer.http_token is not None
        view["source"] = "config" if of_base else "admin"
        view["changed"] = sorted(changes) if of_base else []
        return view

    def peers_view(self) -> list[dict[str, Any]]:
        """All peers, each as `peer_view`."""
        return [self.peer_view(peer) for peer in self._applier.settings.peers]

    def routes_view(self) -> list[dict[str, Any]]:
        """Static routes in JSON, without those in the settings of a peer.

        A route that another one beats, or whose next hop is gone, is announced to nobody.
        """
        added = set(self.overlay.routes)
        return [
            {
                "prefix": route.prefix,
                "nextHop": route.next_hop,
                "source": "admin" if route in added else "config",
                "announcedTo": self._announced_to(
                    Route(RouteSource.CONFIG, route.next_hop, route.prefix)
                ),
            }
            for route in self._applier.settings.routes
        ]

    @cached_property
    def _base_routes(self) -> frozenset[Route]:
        return frozenset(routes_of(self._base, ""))  # many, and only those who ask need them

    def is_configured(self, route: Route) -> bool:
        """Whether a static route is of the settings; else it was added here, by itself or with its peer."""
        return route in self._base_routes

    # --- changes

    async def create_peer(self, wanted: PeerSettings, shown: str | None = None) -> bool:
        """Add a peer; False: it exists with the same settings. `shown`: see `_change`.

        Raises:
            ConflictError: it exists with other settings.
            ConnectorError: see `_change`.
        """
        return await self._change(self._steps.create_peer(wanted), shown)

    async def put_peer(
        self, peer_id: str, fields: dict[str, Any], shown: str | None = None
    ) -> bool:
        """Add a peer or replace its settings; whether it is new. Rules: `Steps.put_peer`.

        Raises:
            ConfigError: the fields do not make a peer, for example without a secret.
            ConnectorError: see `_change`.
        """
        step = self._steps.put_peer(peer_id, fields)
        await self._change(step, shown)
        return step.is_new

    async def edit_peer(
        self, peer_id: str, fields: dict[str, Any], shown: str | None = None
    ) -> bool:
        """Change those settings of a peer that are given; whether anything changed.

        Raises:
            UnknownNameError: there is no such peer.
            ConnectorError: see `_change`.
        """
        return await self._change(self._steps.edit_peer(peer_id, fields), shown)

    async def set_limits(
        self, peer_id: str, limits: dict[str, Any], shown: str | None = None
    ) -> bool:
        """Change those limits of a peer that are given; None: the default of the node.

        Raises:
            UnknownNameError: there is no such peer.
            CreditInUseError: the peer uses more credit than the new limit.
            ConnectorError: see `_change`.
        """
        return await self._change(self._steps.set_limits(peer_id, limits), shown)

    def grace_until(self, seconds: int) -> str | None:
        """The end of a time that begins now, as settings have it; None: there is no such time."""
        return iso_seconds(self._now_ms() // 1000 + seconds) if seconds else None

    async def rotate_secret(
        self, peer_id: str, secret: SecretStr, until: str | None, shown: str | None = None
    ) -> None:
        """Give a peer another secret; the present one serves beside it until then, None: not at all. `shown`: see `_change`.

        Raises:
            UnknownNameError: there is no such peer.
            ConnectorError: see `_change`.
        """
        await self._change(self._steps.rotate_secret(peer_id, secret, until), shown)

    async def end_graces(self) -> None:
        """Forget former secrets that serve no more; those of the configuration stay there."""
        now_ms = self._now_ms()
        for peer in self._applier.settings.peers:
            if "secretFormer" not in self.overlay.peers.get(peer.id, {}):
                continue
            if peer.secret_former is not None and peer.secret_former_until_ms <= now_ms:
                with contextlib.suppress(ConnectorError):  # it is recorded, and tried again
                    await self._change(self._steps.end_grace(peer.id))

    async def _keep_ending_graces(self) -> None:
        CALLER.set(Caller("node", ""))
        while True:
            await self.end_graces()
            await asyncio.sleep(bounds.GRACE_LOOK_SECONDS)

    async def reconnect(self, peer_id: str) -> None:
        """Close the link of a peer, and dial it at once where it has a URL.

        Raises:
            UnknownNameError: there is no such peer.
            ConflictError: it has no link, and it is the one that dials.
        """
        self._steps.peer(peer_id)
        if not self._applier.reconnect(peer_id):
            raise ConflictError(f"peer {peer_id} has no link and no url: it dials this node")
        self.note("peer.reconnect", peer_id)

    def preview(self, step: Step, *, force: bool = False) -> dict[str, Any]:
        """What a step would do. It is checked as the change itself is; nothing is changed or recorded.

        Raises:
            ConnectorError: why the change could not be made.
        """
        after = step.apply(self.overlay)
        settings = after.apply(self._base)
        self._check(settings)
        standing = {peer_id: self._standing(peer_id) for peer_id in self._accounts.peers}
        seen = self._seen(after, settings, standing, force=force)
        return seen.as_json(
            step.action, step.target, self._seen(after, settings, {}, force=False).digest
        )

    def _seen(
        self, after: Overlay, settings: Settings, standing: dict[str, Standing], *, force: bool
    ) -> Preview:
        """The preview of a change to these settings; without `standing`: what does not vary with packets."""
        removing = set(after.draining_peers) - set(self.overlay.draining_peers)
        return preview_of(
            self._applier.settings, settings, removing=removing, standing=standing, force=force
        )

    def _standing(self, peer_id: str) -> Standing:
        books = self._accounts.peers[peer_id]
        connected, in_flight = self._applier.link_of(peer_id)
        return Standing(connected, in_flight, books.net_balance, books.terms.asset)

    async def delete_peer(
        self, peer_id: str, *, force: bool = False, shown: str | None = None
    ) -> LeftBehind:
        """Remove a peer once no packet of or to it is in flight; returns packets without an answer.

        From now on no new packets are accepted from it or routed to it. Packets in flight are waited
        for, at most as long as a packet is held. The removal continues after a restart. Adding the
        peer again cancels it. `force`: do not wait.

        Raises:
            UnknownNameError: there never was such a peer.
            ConnectorError: see `_change`.
        """
        await self._change(self._steps.drain_peer(peer_id), shown, is_last=False)
        if force or peer_id not in self.overlay.draining_peers or self._applier.is_drained(peer_id):
            return await self._remove(peer_id)
        begins = peer_id not in self._finishing
        if begins:
            self.note("peer.drain", peer_id)
            self._begin_finishing(peer_id)
        finishing = self._finishing[peer_id]
        if begins:
            await self._note_recorded()
        # In a task of its own: a caller that gives up does not end the removal.
        outcome = await asyncio.shield(finishing)
        if isinstance(outcome, ConnectorError):
            raise outcome
        return outcome

    def start(self, group: asyncio.TaskGroup) -> None:
        """Continue removals that a stop has interrupted, in tasks of `group`; record what was not."""
        self._group = group
        left = self._unrecorded.left(self.overlay)
        if left is None:
            self._unrecorded.over()  # as it nearly always is: there is nothing
        else:
            self._tell(left, _CUT_OFF)
            self._recording = group.create_task(self._note_recorded())
        self._ending = group.create_task(self._keep_ending_graces())
        for peer_id in self.overlay.draining_peers:
            self._begin_finishing(peer_id)

    def stop(self) -> None:
        """Leave unfinished removals to the next start."""
        for task in self._finishing.values():
            task.cancel()
        if self._ending is not None:
            self._ending.cancel()

    def _begin_finishing(self, peer_id: str) -> None:
        assert self._group is not None, "not started"
        task = self._group.create_task(self._finish(peer_id))
        self._finishing[peer_id] = task
        task.add_done_callback(lambda _: self._finishing.pop(peer_id))

    async def _finish(self, peer_id: str) -> LeftBehind | ConnectorError:
        """Wait until a peer is drained, then remove it; returns the error, if any."""
        while peer_id in self.overlay.draining_peers and not self._accounts.knows_holds:
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        wait_s = self._applier.settings.max_hold_ms / 1000 + _DRAIN_MARGIN_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while peer_id in self.overlay.draining_peers:
                    if self._applier.is_drained(peer_id):
                        break
                    await asyncio.sleep(_DRAIN_POLL_SECONDS)
        try:
            return await self._remove(peer_id)
        except ConnectorError as error:
            return error  # it is recorded, and goes on draining until the next try or start

    async def _remove(self, peer_id: str) -> LeftBehind:
        """Remove a drained peer, unless it was added again meanwhile."""
        left = LeftBehind(0, 0)
        if peer_id in self.overlay.draining_peers:
            try:
                await self._accounts.keep_answers(peer_id, self._answer_given)
            except (OSError, ConnectorError) as error:
                self._log.warning("answers_not_kept", peer_id=peer_id, reason=str(error))

        def step(now: Overlay) -> Overlay:
            nonlocal left
            if peer_id not in now.draining_peers:
                return now
            left = self._applier.unanswered(peer_id)
            return now.without_peer(peer_id, self._base)

        await self._change(Step("peer.delete", peer_id, step))
        if left.packets:
            self._log.warning(
                "peer_removed_with_packets_unanswered",
                peer_id=peer_id,
                packets=left.packets,
                amount=str(left.amount),
            )
        return left

    def _is_removed(self, peer_id: str, now: Overlay) -> bool:
        books = self._accounts.peers.get(peer_id)
        return peer_id in now.removed_peers or (books is not None and books.removed)

    async def add_route(self, route: RouteSettings, shown: str | None = None) -> bool:
        """Add a static route; False: it exists.

        Raises:
            ConfigError: its next hop is not a peer.
            ConnectorError: see `_change`.
        """
        return await self._change(self._steps.add_route(route), shown)

    async def delete_route(self, route: RouteSettings, shown: str | None = None) -> bool:
        """Remove a static route; False: it has been removed already.

        Raises:
            UnknownNameError: there is no such static route.
            ConnectorError: see `_change`.
        """
        return await self._change(self._steps.delete_route(route), shown)

    def note(self, action: str, target: str, outcome: str = "ok", detail: str = "") -> None:
        """Emit and log an action with the admin key; `detail`: what it changed."""
        self._tell(self._about(action, target, detail), outcome)

    def _about(self, action: str, target: str, detail: str) -> About:
        caller = CALLER.get()
        return About(
            action=action,
            target=target,
            detail=detail,
            via=caller.via,
            address=caller.address,
            key_fingerprint=self._fingerprint(),
        )

    def _tell(self, about: About, outcome: str) -> None:
        self._emit(
            AdminAction(
                action=about.action,
                target=about.target,
                key_fingerprint=about.key_fingerprint,
                outcome=outcome,
                via=about.via,
                address=about.address,
                peer_id=_peer_in(about.action, about.target),
                detail=about.detail,
            )
        )
        self._log.info(
            "admin_action",
            action=about.action,
            target=about.target,
            outcome=outcome,
            key_fingerprint=about.key_fingerprint,
            via=about.via,
            address=about.address,
            **({"detail": cut(about.detail)} if about.detail else {}),
        )

    async def _note_recorded(self) -> None:
        """`_is_recorded`, by itself: no further change is being written down meanwhile."""
        async with self._one_at_a_time:
            await self._is_recorded()

    async def _is_recorded(self) -> None:
        """Forget what was written down of a change when its record is on disk; within `_one_at_a_time`."""
        if await self._recorded():
            self._unrecorded.over()

    # --- making a change

    async def _change(self, step: Step, shown: str | None = None, *, is_last: bool = True) -> bool:
        """Make the change that `step` describes; False: it changes nothing.

        `is_last`: it completes the action, which is recorded as done. `shown`: that of the preview which the
        operator has seen; None: none. Where another one would be shown now, nothing is done.

        Raises:
            ConfigError: the settings would not be valid; with every fault.
            ConflictError: balances or limits do not allow it.
            LedgerUnavailableError: the ledger did not acknowledge it; nothing was changed.
            EnvironmentFault: it could not be written to disk; nothing was changed.
        """
        async with self._one_at_a_time:
            before = self.overlay
            try:
                after = step.apply(before)
                if after == before:
                    return False
                settings = after.apply(self._base)
                if shown not in (None, self._seen(after, settings, {}, force=False).digest):
                    raise ConflictError(
                        "the settings were changed since that was shown, so nothing was done: look again"
                    )
                self._check(settings)
                detail = self._changes_in_words(settings)
                action = step.action if is_last else "peer.drain"
                about = self._about(action, step.target, detail)
                try:
                    await self._keep(after, about)
                    await self._applier.change(settings, after.draining_peers)
                except _NotKeptError:
                    raise
                except BaseException:
                    await self._keep(before)
                    raise
            except ConnectorError as error:
                self.note(
                    step.action, step.target, str(error)[: bounds.CHANGE_FAULT_CHARACTERS_MAX]
                )
                raise
            self.overlay = after
            self._changed()
            if is_last:
                self.note(step.action, step.target, detail=detail)
                await self._is_recorded()
            return True

    def _changes_in_words(self, to: Settings) -> str:
        """The settings of peers that differ, with both values; those of secrets are not shown."""
        changes = preview_of(self._applier.settings, to, removing=(), standing={}).changes
        return "; ".join(
            f"{one['field']}: {one['from'] or 'none'} -> {one['to'] or 'none'}" for one in changes
        )

    def _check(self, to: Settings) -> None:
        """Refuse what balances do not allow, before anything is written.

        Checked against the mirror; the ledger checks credit again when the limit is changed.

        Raises:
            ConflictError, CreditInUseError: balances do not allow it.
        """
        old = {peer.id: peer for peer in self._applier.settings.peers}
        for peer in to.peers:
            terms = terms_of(to, peer)
            books = self._accounts.peers.get(peer.id)
            if books is None:
                continue
            if books.terms.asset != terms.asset:
                if not books.removed:
                    raise ConflictError(
                        f"peer {peer.id} has its account in {books.terms.asset}: delete it and add "
                        f"it again to have one in {terms.asset}"
                    )
                if not books.is_even:
                    raise ConflictError(
                        f"peer {peer.id} was removed with a balance of {books.net_balance} in "
                        f"{books.terms.asset}, or packets of it are under way: let that be settled "
                        "first, or add it in that asset"
                    )
                continue
            if peer.id in old and terms_of(self._applier.settings, old[peer.id]) == terms:
                continue
            used = books.granted - books.available_credit
            if terms.credit_limit < min(used, books.granted):
                raise CreditInUseError(
                    f"peer {peer.id} uses {used} of its credit of {books.granted}; a limit of "
                    f"{terms.credit_limit} is below that: let it pay first"
                )

    async def _keep(self, overlay: Overlay, about: About | None = None) -> None:
        """Put changes on disk; `about`: the one that leads to them, None: it is undone.

        Raises:
            _NotKeptError: they are not.
        """

        def write() -> None:
            if about is not None:
                self._unrecorded.begin(about, overlay)
            overlay.write(self._path)
            if about is None:
                self._unrecorded.over()

        writing = asyncio.ensure_future(asyncio.to_thread(write))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # A thread is not cancelled: what comes next would be overtaken by it.
            await asyncio.wait([writing])
            raise
        except OSError as error:
            raise _NotKeptError(
                f"the change cannot be kept, so it was not made: {error.strerror or error}"
            ) from error


def _peer_in(action: str, target: str) -> str:
    """The peer that an action concerns; empty: none."""
    kind = action.partition(".")[0]
    if kind == "route":
        return target.rpartition("=")[2]
    return target if kind in ("peer", "settlement") else ""
