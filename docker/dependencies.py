"""Prints what the package needs, one requirement a line, for the layer of the image that rarely changes.

`python docker/dependencies.py` in the folder of pyproject.toml.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
sys.stdout.write("\n".join(project["dependencies"]) + "\n")
