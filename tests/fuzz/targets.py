"""All fuzz targets by name."""

from __future__ import annotations

from typing import Final

from tests.fuzz import (
    commands,
    configuration,
    connections,
    http,
    ilp_http,
    rows,
    streams,
    wire,
)
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for module in (wire, connections, configuration, http, ilp_http, commands, rows, streams)
    for target in module.TARGETS
}
