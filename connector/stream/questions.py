"""What payers say in data frames, as it is told to whom decides about it, and the decision. Pure.

Wallets send such data to each other, about who pays and why, and the one that is paid may decline. The
question has an id that follows from the packet's octets, so it is the same however often it is asked.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connector.stream import bounds
from connector.stream.packet import StreamData


@dataclass(frozen=True, slots=True)
class DataPiece:
    """The data of one frame."""

    stream_id: int
    offset: int
    """Of its first octet in all that this stream carries."""
    data: bytes
    """At least one octet, and together with the other pieces less than a packet's data, 32,767."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentData:
    """What is asked about one packet of a payment to a wallet of this node."""

    question_id: str
    """32 hex digits, the same every time that this packet is asked about."""
    payment_id: str
    """32 hex digits, the same for all packets of a payer's connection."""
    wallet: str
    asset_code: str
    asset_scale: int
    amount: int
    """What the wallet gets if the packet is accepted, in its asset; zero or more."""
    pieces: tuple[DataPiece, ...]
    """At least one."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a packet is accepted."""

    accept: bool
    message: str = ""
    """For the payer, if it is declined; cut at 200 characters."""


def payment_id_of(token: str) -> str:
    """The id of a payer's connection, 32 hex digits: it says nothing of its address."""
    return _digest(b"connector_payment", token.encode("ascii"))


def question_id_of(data: bytes) -> str:
    """The id of the question about a packet with this encrypted data, 32 hex digits."""
    return _digest(b"connector_question", data)


def pieces_of(frames: Sequence[object]) -> tuple[DataPiece, ...]:
    """The data in the frames of a packet."""
    return tuple(
        DataPiece(frame.stream_id, frame.offset, frame.data)
        for frame in frames
        if isinstance(frame, StreamData) and frame.data
    )


def question(asked: PaymentData, expires_at: str) -> dict[str, Any]:
    """The question as JSON. Amounts are strings; `text` is the data where it is UTF-8, else null."""
    return {
        "id": asked.question_id,
        "paymentId": asked.payment_id,
        "wallet": asked.wallet,
        "assetCode": asked.asset_code,
        "assetScale": asked.asset_scale,
        "amount": str(asked.amount),
        "expiresAt": expires_at,
        "data": [
            {
                "streamId": str(piece.stream_id),
                "offset": str(piece.offset),
                "base64": base64.b64encode(piece.data).decode("ascii"),
                "text": _text_of(piece.data),
            }
            for piece in asked.pieces
        ],
    }


def read_decision(body: Any) -> Decision:
    """The answer to a question: `{"accept": true}`, or `{"accept": false, "message": "why"}`.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(body, dict) or not isinstance(body.get("accept"), bool):
        raise ValueError("the answer does not say whether to accept")  # noqa: TRY004 - one kind of fault
    message = body.get("message")
    if message is not None and not isinstance(message, str):
        raise ValueError("the message of the answer is no text")
    return Decision(body["accept"], said(message or ""))


def said(message: str) -> str:
    """A message for a payer: what can be printed, cut."""
    cut = message[: bounds.DECLINED_MESSAGE_CHARACTERS_MAX]
    return "".join(one if one.isprintable() else " " for one in cut).strip()


def _text_of(octets: bytes) -> str | None:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _digest(what: bytes, octets: bytes) -> str:
    return hashlib.sha256(what + b":" + octets).hexdigest()[:32]
