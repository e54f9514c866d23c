"""Named nodes of an operator: the URL and the key file of each, in `~/.config/ilp-connector/nodes.json`.

Whoever can write that file can have a key sent to a place of his own, and whoever can read a key file has the
key: files with such permissions are refused.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any, Final

from connector.base.errors import EnvironmentFault, OperatorError, UnknownNameError
from connector.base.files import read_bounded, read_json, replace_private
from connector.base.words import words_of
from connector.tools import bounds
from connector.tools.client import check_url

FILE_NAME: Final = "nodes.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Profile:
    """A node, as its operator reaches it."""

    name: str
    url: str
    key_file: Path | None = None
    """Absolute; None: it is asked without a key."""

    def key(self) -> str | None:
        """The key in its file.

        Raises:
            OperatorError: it cannot be read, others can read it, or it holds no key.
        """
        if self.key_file is None:
            return None
        try:
            _check_private(self.key_file, 0o077, "readable by others")
            text = read_bounded(self.key_file, bounds.KEY_FILE_BYTES_MAX).decode("ascii").strip()
        except OSError as error:
            raise OperatorError(
                f"node {self.name}: {self.key_file} cannot be read: {words_of(error)}"
            ) from None
        except UnicodeDecodeError:
            text = ""
        if not _KEY.fullmatch(text):
            raise OperatorError(f"node {self.name}: {self.key_file} holds no key")
        return text

    def as_json(self) -> dict[str, Any]:
        """As `nodes --json` shows it."""
        key_file = None if self.key_file is None else str(self.key_file)
        return {"name": self.name, "url": self.url, "keyFile": key_file}


class Nodes:
    """The nodes of one operator. What is changed is on disk when a method returns."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet; `folder` need not be there."""
        self.folder: Final = folder
        self.path: Final = folder / FILE_NAME

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Nodes:
        """Those of whoever has this environment (XDG base directories)."""
        base = environment.get("XDG_CONFIG_HOME", "")
        root = Path(base) if base.startswith("/") else Path("~/.config").expanduser()
        return cls(root / "ilp-connector")

    def all(self) -> list[Profile]:
        """Every node, by name.

        Raises:
            OperatorError: the file cannot be used, or others can write it.
        """
        try:
            _check_private(self.folder, 0o022, "writable by others")
            _check_private(self.path, 0o022, "writable by others")
            content = read_json(self.path, bounds.NODES_FILE_BYTES_MAX)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OperatorError(f"{self.path} cannot be read: {words_of(error)}") from None
        except ValueError as error:
            raise OperatorError(f"{self.path} cannot be used: {error}") from None
        return sorted(self._profiles(content), key=lambda one: one.name)

    def _profiles(self, content: Any) -> list[Profile]:
        if not isinstance(content, dict) or not isinstance(content.get("nodes"), dict):
            raise OperatorError(f'{self.path} cannot be used: it has no "nodes"')
        found = []
        for name, one in content["nodes"].items():
            url = one.get("url") if isinstance(one, dict) else None
            key_file = one.get("keyFile") if isinstance(one, dict) else None
            if not isinstance(url, str) or not isinstance(key_file, str | None):
                raise OperatorError(f"{self.path} cannot be used: node {name} has no url")
            found.append(Profile(name, url, None if key_file is None else Path(key_file)))
        return found

    def named(self, name: str) -> Profile:
        """One of them.

        Raises:
            UnknownNameError: there is none of this name.
            OperatorError: see `all`.
        """
        for one in self.all():
            if one.name == name:
                return one
        raise UnknownNameError(f"no node is named {name}: `nodes` lists them, `nodes add` adds one")

    def add(self, profile: Profile, *, force: bool = False) -> None:
        """Add a node; `force`: or replace it.

        Raises:
            OperatorError: name or URL are none, it is there, or its key file cannot be used.
            EnvironmentFault: the file cannot be written.
        """
        if not _NAME.fullmatch(profile.name):
            raise OperatorError(
                f"{profile.name!r} is no name: 1 to 64 letters, digits, points, hyphens and underscores"
            )
        check_url(profile.url)
        profile.key()
        others = [one for one in self.all() if one.name != profile.name]
        if len(others) >= bounds.NODES_MAX:
            raise OperatorError(f"there are {bounds.NODES_MAX} nodes: remove one first")
        if len(others) < len(self.all()) and not force:
            raise OperatorError(f"node {profile.name} is there: --force replaces it")
        self._write([*others, profile])

    def remove(self, name: str) -> Profile:
        """Remove a node; a key that was put into `keys` goes too.

        Raises:
            UnknownNameError: there is none of this name.
            EnvironmentFault: the file cannot be written.
        """
        gone = self.named(name)
        self._write([one for one in self.all() if one.name != name])
        if gone.key_file == self.key_path(name):
            gone.key_file.unlink(missing_ok=True)
        return gone

    def key_path(self, name: str) -> Path:
        """Where the key of a node is put that is given to `nodes add`."""
        return self.folder / "keys" / name

    def keep_key(self, name: str, key: str) -> Path:
        """Put a key into a file that only this user can read; returns the file.

        Raises:
            OperatorError: name or key are none.
            EnvironmentFault: it cannot be written.
        """
        if not _NAME.fullmatch(name) or not _KEY.fullmatch(key):
            raise OperatorError("that is no key: printable characters without blanks")
        path = self.key_path(name)
        _put(path, key + "\n")
        return path

    def _write(self, profiles: list[Profile]) -> None:
        nodes = {
            one.name: {name: value for name, value in one.as_json().items() if name != "name"}
            for one in sorted(profiles, key=lambda one: one.name)
        }
        _put(self.path, dumps({"version": 1, "nodes": nodes}, indent=1) + "\n")


def _put(path: Path, text: str) -> None:
    try:
        replace_private(path, text)
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written: {words_of(error)}") from None


def _check_private(path: Path, forbidden: int, why: str) -> None:
    """Refuse a file with these permissions, or of another user.

    Raises:
        OperatorError: it is so.
        OSError: it cannot be looked at.
    """
    found = path.stat()
    if found.st_uid not in (os.getuid(), 0):
        raise OperatorError(f"{path} is not used: it belongs to another user")
    if stat.S_IMODE(found.st_mode) & forbidden:
        right = "go-w" if forbidden == 0o022 else "go="
        raise OperatorError(f"{path} is not used: it is {why}; chmod {right} {path}")
