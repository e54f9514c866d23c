"""The change by an operator that is being made: on disk before the settings are, until its record is.

A change is in effect from the next start on when its file is written, and recorded as `ADMIN_ACTION` when it is applied. A process
that ends in between leaves a change without a record. So what is about to be done is written down first, with a hash of the
settings that it leads to: where the next process begins with those, it records the change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from connector.base.files import read_json, replace_private
from connector.settings.overlay import Overlay

FILE_NAME: Final = "changes.pending"
_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class About:
    """A change, and who makes it, as they are recorded."""

    action: str
    target: str
    detail: str
    via: str
    address: str
    key_fingerprint: str


class Unrecorded:
    """See the module. One per node."""

    def __init__(self, path: Path) -> None:
        """`path`: where it is written."""
        self._path = path

    def begin(self, about: About, becomes: Overlay) -> None:
        """Write down what is about to be done; `becomes`: the changes that are in effect then.

        Raises:
            OSError: it could not be written.
        """
        content = {**asdict(about), "becomes": _digest(becomes)}
        replace_private(self._path, json.dumps(content) + "\n")

    def over(self) -> None:
        """It is recorded, or undone. What cannot be removed is recorded once more at the next start."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def left(self, in_effect: Overlay) -> About | None:
        """What an earlier process has put into effect and may not have recorded; it stays until `over`.

        `in_effect`: the changes that this one begins with.
        """
        try:
            found = read_json(self._path, _BYTES_MAX)
        except (OSError, ValueError):
            return None  # as it nearly always is; or damaged, by whomever
        if not isinstance(found, dict) or found.get("becomes") != _digest(in_effect):
            return None
        texts = {one.name: found.get(one.name) for one in fields(About)}
        if not all(isinstance(text, str) for text in texts.values()):
            return None
        return About(**{name: str(text) for name, text in texts.items()})


def _digest(overlay: Overlay) -> str:
    """Of all that it says, secrets too."""
    content = overlay.model_dump(by_alias=True, mode="json")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
