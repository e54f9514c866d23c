"""Small files: replaced atomically; read with a size bound, whatever kind of file a name leads to.

After a crash there is the old content or the new one.
"""

from __future__ import annotations

import errno
import json
import os
import select
import tempfile
from pathlib import Path
from typing import Any, Final, NoReturn

_MILLISECONDS_MAX: Final = 5000
"""How long a pipe or a terminal may say nothing."""


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """The content of a file or a pipe (`<(...)` of a shell); if it is longer, `bytes_max` + 1 octets.

    A pipe that nobody writes to would block for ever, and so would a terminal.

    Raises:
        OSError: it cannot be read, or nothing comes for seconds.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        waiting = select.poll()
        waiting.register(number, select.POLLIN)
        octets = b""
        while len(octets) <= bytes_max:
            if not waiting.poll(_MILLISECONDS_MAX):
                raise OSError(errno.ETIMEDOUT, "it is a pipe, and nothing comes out of it")
            part = os.read(number, bytes_max + 1 - len(octets))
            if not part:
                break
            octets += part
        return octets
    finally:
        os.close(number)


def read_json(path: Path, bytes_max: int) -> Any:
    """The JSON value in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON (`json.JSONDecodeError` where there is a line to name), longer than
            `bytes_max`, nested too deeply, or has text that is not valid Unicode.
    """
    octets = read_bounded(path, bytes_max)
    if len(octets) > bytes_max:
        raise ValueError(f"it is longer than {bytes_max} octets")
    return parse_json(octets)


def parse_json(octets: bytes) -> Any:
    """As `read_json`, for octets that were read already.

    Raises:
        ValueError: see there.
    """
    try:
        value = json.loads(octets.decode("utf-8"), parse_constant=_no_json)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if b"\\ud" in octets.lower():
        # Half of a surrogate pair is not text: it fails here, not where it is used.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def private_file(path: Path) -> None:
    """Create a file, and its folder, for this user only; what is there stays as it is.

    SQLite gives its further files the mode of the first one.

    Raises:
        OSError: it cannot be created.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def replace_private(path: Path, text: str) -> None:
    """Put `text` on disk as `path`, readable by this user only.

    Raises:
        OSError: it could not be written; the previous content is kept.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made with mode 0600.
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - the name is a string
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    # The name is on disk only when the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class FileNote:
    """A short text that a process leaves to the next one, in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    def leave(self, text: str) -> None:
        """Put it on disk, instead of an earlier one.

        Raises:
            OSError: it could not be written.
        """
        replace_private(self.path, text)

    def take(self, bytes_max: int) -> bytes:
        """What was left, once.

        Raises:
            FileNotFoundError: nothing was.
            OSError: it cannot be read or removed.
            ValueError: it is longer than `bytes_max`; it stays there.
        """
        with self.path.open("rb") as file:
            octets = file.read(bytes_max + 1)
        if len(octets) > bytes_max:
            raise ValueError(f"it is longer than {bytes_max} octets")
        self.path.unlink()
        return octets
