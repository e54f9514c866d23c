"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

OPEN_FILES_MAX: Final = 10_240
"""Asked for where the system names no limit; macOS takes no more."""

PACKETS_SHOWN: Final = 20
"""By `packets`, unless --count says how many."""

LOG_SHOWN: Final = 50
"""By `log`, unless --count says how many."""
LOG_FOLLOWED_SHOWN: Final = 10

AUDIT_LOOK_SECONDS: Final = 0.1
"""Between two looks at an audit that a node makes."""

KEEP_SHOWN_CHARACTERS_MAX: Final = 4000
"""Of the command with which `simulate` shows a failure again; a longer one is left out."""
# What a command that takes long says of its progress.
PROGRESS_AFTER_SECONDS: Final = 2.0
PROGRESS_SECONDS: Final = 0.5
PROGRESS_LINE_SECONDS: Final = 10.0

# What `init` suggests and reads.
BTP_PORT: Final = 3000
HTTP_PORT: Final = 8080
SECRET_FILE_BYTES_MAX: Final = 4096
