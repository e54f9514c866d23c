"""How long tests wait: no result may depend on what else the machine does."""

from __future__ import annotations

import os
from typing import Final

PATIENCE_SECONDS: Final = 60.0
"""For an event that has to come: much longer than it takes, for machines that are busy."""


def allowed_s(seconds: float) -> float:
    """How long something may take that takes `seconds` at most on an idle machine.

    More by as much as others want the processors now, the tests' own processes among them.
    """
    return seconds * (1 + os.getloadavg()[0] / (os.cpu_count() or 1))
