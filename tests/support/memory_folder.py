"""Files that need not outlive the machine: what waits for a disk in use is not what is tested."""

from __future__ import annotations

import os
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")


def memory_folder() -> Path | None:
    """Where files are kept in memory, as `dir` of `tempfile`; None: nowhere on this machine."""
    usable = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
    return _SHARED_MEMORY if usable else None
