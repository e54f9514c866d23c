"""The exceptions of the connector, sorted by whose fault they are.

ConnectorError
├── PeerError                 a counterparty broke a rule; never our bug
│   ├── DecodeError           malformed octets
│   └── ProtocolError         well-formed, but not allowed now (RFC 23)
├── EnvironmentFault          disk, network or ledger; may pass by itself
│   ├── LedgerUnavailableError    no acknowledgement; the outcome of the request is unknown
│   │   └── LedgerNotNowError     the request cannot be made now; not for want of an answer
│   ├── ListenError           a port could not be bound
│   ├── SettlementStoreError  the file of settlements cannot be used
│   ├── SettlementsWaitingError   too many payments of a peer wait for an operator
│   ├── EngineError           a settlement engine did not do what it was asked
│   └── HttpError             an HTTP request failed, or its answer cannot be used
│       ├── HttpUnreachableError  no connection, or no HTTP over it
│       ├── HttpTimeoutError  no complete answer in time
│       └── HttpAnswerError   the answer breaks a bound or its format
└── OperatorError             configuration or command line; a human must act
    ├── ConfigError           settings, with every fault found
    ├── LedgerLockedError     another process uses the ledger file
    ├── LedgerBehindError     the ledger does not have all that it has acknowledged
    ├── LedgerCorruptError    the ledger file is damaged or not a ledger
    ├── LedgerRefusedError    the database will not serve us: cluster, version, session, io_uring
    ├── SupersededError       another process of this node has taken over; this one stops
    │   └── OtherIsActiveError    it had done so before this one was started
    ├── UnknownNameError      the named object does not exist
    ├── KeyRefusedError       a key or a log-in is missing, wrong, or not enough
    ├── ConflictError         the request conflicts with the current state
    │   ├── CreditInUseError  a limit cannot be lowered below what is in use
    │   └── KeyReusedError    an idempotency key is that of another request
    └── SettlementError       a settlement that cannot be made as requested
        ├── QuantityError     an amount or a scale that is none
        ├── SettlementConflictError   it contradicts an existing one
        │   └── SettlementKeyReusedError  its key is that of another one
        └── SettlementUnknownError    no such peer or settlement

Our own impossible cases are `AssertionError`. A Reject on the wire is a value, not an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


class ConnectorError(Exception):
    """Base of all errors that the package raises deliberately."""


class PeerError(ConnectorError):
    """A counterparty broke a rule."""


class DecodeError(PeerError):
    """Malformed octets: the field, the offset where it starts, and the reason."""

    def __init__(self, field: str, offset: int, reason: str) -> None:
        super().__init__(field, offset, reason)
        self.field: Final = field
        self.offset: Final = offset
        self.reason: Final = reason

    def __str__(self) -> str:
        return f"{self.field} at octet {self.offset}: {self.reason}"


class ProtocolError(PeerError):
    """A well-formed message that is not allowed in the current state of its session."""


class EnvironmentFault(ConnectorError):  # noqa: N818 - "error" would read as ours
    """Disk, network or ledger failed; trying again may help."""


class LedgerUnavailableError(EnvironmentFault):
    """The ledger did not acknowledge; it is unknown whether the request was executed."""


class LedgerNotNowError(LedgerUnavailableError):
    """The request cannot be made now; whether the ledger answers is another question."""


class ListenError(EnvironmentFault):
    """A port could not be bound."""


class SettlementStoreError(EnvironmentFault):
    """The file of settlements cannot be read or written."""


class SettlementsWaitingError(EnvironmentFault):
    """Too many payments of a peer wait for an operator; there is room when one was decided."""


class EngineError(EnvironmentFault):
    """A settlement engine did not answer, or not with success; whether it paid is unknown."""


class HttpError(EnvironmentFault):
    """An HTTP request failed, or its answer cannot be used; the message is for an operator."""


class HttpUnreachableError(HttpError):
    """No connection, or no HTTP over it: `kind` is a short name, `detail` may be empty."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind: Final = kind
        self.detail: Final = detail

    def __str__(self) -> str:
        return self.detail or self.kind


class HttpTimeoutError(HttpError):
    """No complete answer in time; it is unknown whether the request was executed."""


class HttpAnswerError(HttpError):
    """The answer is longer, deeper or encoded otherwise than is allowed, or is not JSON."""


class OperatorError(ConnectorError):
    """The operator must act; the message says how."""


class ConfigError(OperatorError):
    """Settings that cannot be used; `faults` holds every one, a line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults: Final = tuple(faults)


class LedgerLockedError(OperatorError):
    """Another process uses the ledger file."""


class LedgerBehindError(OperatorError):
    """A ledger does not have all that it has acknowledged."""


class LedgerCorruptError(OperatorError):
    """The ledger file is damaged, or is not a ledger."""


class LedgerRefusedError(OperatorError):
    """The database will not serve us until someone acts; `reason` is a fixed word for why.

    `bad_address`, `bad_cluster_id`, `wrong_cluster`, `client_too_old`, `client_too_new`,
    `session_evicted`, `batch_too_small`, `io_uring_denied`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason: Final = reason
        self.message: Final = message

    def __str__(self) -> str:
        return self.message


class SupersededError(OperatorError):
    """Another process of this node has taken over the accounts; this one must stop."""


class OtherIsActiveError(SupersededError):
    """The same at the start: another process has taken over since this DATA_DIR was in use."""


class KeyRefusedError(OperatorError):
    """A key or a log-in is missing, wrong, or not enough for what was asked."""


class UnknownNameError(OperatorError):
    """The named object does not exist."""


class ConflictError(OperatorError):
    """The request conflicts with the current state; the message names the conflict."""


class KeyReusedError(ConflictError):
    """An idempotency key is that of another request: the same again will be refused again."""


class CreditInUseError(ConflictError):
    """A credit limit cannot be lowered below what is in use."""


class SettlementError(OperatorError):
    """A settlement that cannot be made as requested."""


class QuantityError(SettlementError):
    """An amount or a scale that is none; the message begins with which."""


class SettlementConflictError(SettlementError):
    """It contradicts an existing settlement: another amount under its key, or one in progress."""


class SettlementKeyReusedError(SettlementConflictError):
    """An idempotency key is that of another settlement: the same again will be refused again."""


class SettlementUnknownError(SettlementError):
    """There is no such peer, or no such settlement with it."""
