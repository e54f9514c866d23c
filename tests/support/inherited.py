"""The part of the environment that processes of tests inherit: no settings of a connector."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_NAMES = ("PATH", "HOME", "LANG", "PYTHONPATH", "PYTHONSAFEPATH")
_ROOT = Path(__file__).parents[2]
INHERITED: Final = {name: os.environ[name] for name in _NAMES if name in os.environ}
# Behind the compiled package, where that is what is tested (`scripts/test --compiled`).
INHERITED["PYTHONPATH"] = os.pathsep.join(filter(None, (INHERITED.get("PYTHONPATH"), str(_ROOT))))
