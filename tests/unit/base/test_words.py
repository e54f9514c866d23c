"""Errors of the system in words."""

from __future__ import annotations

import errno
import socket
import sqlite3

import pytest

from connector.base.words import CHARACTERS_MAX, words_of


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('::1', 9)"), "Connection refused"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (sqlite3.OperationalError("disk I/O error"), "disk I/O error"),
        (ValueError("two\nlines"), "two lines"),
        (ConnectionResetError(), ""),
        (ValueError("x" * 1000), "x" * CHARACTERS_MAX),
    ],
)  # fmt: skip
def test_an_error_has_words_and_no_number(error: Exception, said: str) -> None:
    assert words_of(error) == said
