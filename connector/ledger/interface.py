"""The contract of a ledger; its semantics are those of TigerBeetle.

A ledger keeps accounts and transfers permanently and enforces the limits of accounts. It returns one
`Status` per event, in the order of the request; TigerBeetle's documentation of `create_transfers`
defines the statuses. One contract suite (tests/conformance/test_ledger_contract.py) runs against
every implementation.

- **Linked** events form a chain up to and including the first one without the flag: all or none.
- **Pending** transfers reserve; **post** and **void** resolve, once; a timeout expires the rest.
- **Ids** make requests idempotent: the same transfer again gives `EXISTS`, a different one under
  the same id the status of the field that differs, one that failed for lack of credit
  `ID_ALREADY_FAILED`.
- A request is acknowledged when its result is durable, never earlier.
- One request at a time. A request that raises `LedgerUnavailableError` may or may not have been
  carried out: repeat it, unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from connector.ledger.model import Account, AccountStatus, Kept, Status, Transfer


class KeptBeside(Protocol):
    """Fulfilments that are kept for as long as their packets may be asked for; see `kept`."""

    @property
    def kept_bytes(self) -> int:
        """What they take on disk, in octets."""

    async def kept(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        """The Fulfills of those packets that one is kept for, by packet.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """

    async def kept_ids(self) -> list[int]:
        """The packets that a Fulfill is kept for, rising; those known to be posted may be left out.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """

    async def forget_kept(self, now_ms: int) -> bool:
        """Remove those whose time is over, some at a time; whether there may be more.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """


class Ledger(Protocol):
    """A durable double-entry ledger. See the module for the rules."""

    @property
    def backend(self) -> str:
        """Its kind, for logs and health: `embedded`, `tigerbeetle` or `memory`."""

    @property
    def batch_transfers_max(self) -> int:
        """The most events that one request may hold."""

    @property
    def may_be_away(self) -> bool:
        """Whether it is another process, for which a node waits instead of failing to start."""

    @property
    def keeps_books(self) -> bool:
        """Whether acknowledged bookings survive a restart."""

    @property
    def fulfilments(self) -> KeptBeside | None:
        """Those that it keeps beside transfers; None: it keeps none, `create_transfers` takes none."""

    @property
    def waits_for_commits(self) -> bool | None:
        """Whether the event loop waits for its commits at present (`base.pace`); None: it has no file."""

    async def open(self) -> None:
        """Restore everything acknowledged and prepare for requests.

        Raises:
            LedgerLockedError: another process uses it.
            LedgerCorruptError: it is damaged.
            LedgerUnavailableError: it cannot be reached.
        """

    async def close(self) -> None:
        """Finish the request in progress and close. Safe to call twice."""

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountStatus]:
        """Create accounts; balances in the request must be zero.

        Raises:
            LedgerUnavailableError: no acknowledgement.
        """

    async def create_transfers(
        self, transfers: Sequence[Transfer], kept: Sequence[Kept] = ()
    ) -> list[Status]:
        """Create, reserve, post or void, in order.

        `kept` are fulfilments of packets that are posted in this request: they become durable with
        it, whatever the statuses, or not at all.

        Raises:
            LedgerUnavailableError: no acknowledgement.
        """

    async def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """The accounts that exist among `ids`, in their order."""

    async def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        """The transfers that exist among `ids`, in their order."""

    async def node_accounts(self, node_tag: int) -> list[Account]:
        """All accounts whose `user_data_128` is `node_tag`."""

    async def recent_transfers(self, since_ns: int) -> list[Transfer]:
        """Transfers created at or after `since_ns`, oldest first, at least the newest 100,000.

        For recovery, bounded: reservations and resolutions shortly before a crash.
        """

    async def tagged_transfers(
        self, tags: Sequence[int], since_ns: int, *, by_ledger: bool = False
    ) -> list[Transfer]:
        """Transfers created at or after `since_ns` whose `user_data_128` is among `tags`, oldest first.

        `since_ns` is by our clock; `by_ledger`: by that of the ledger, as timestamps are.

        Complete, except for tags shared by more than `LEDGER_TRANSFERS_PER_TAG_MAX` transfers: of
        these the newest. `tags` are not zero.
        """

    async def highest_id(self) -> int:
        """The highest transfer id that it has ever had, if it relies on ids rising with time.

        Zero: it does not rely on that, or has no transfers.
        """

    async def maintain(self) -> str:
        """One bounded maintenance step, between requests; called about once a second.

        Returns:
            A message for the operator, or the empty string.

        Raises:
            LedgerUnavailableError: it could not be done; try again later.
        """
