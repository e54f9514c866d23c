"""The version of the package; its own module because parts that the package imports need it."""

import sys
from importlib.util import find_spec
from pathlib import Path

__version__ = "0.2.0"

_COMPILED = "connector.switch.driver"
"""A module of the core: where it is compiled, all of `hatch_compile.MODULES` are."""


def is_compiled() -> bool:
    """Whether the core is compiled (`hatch_compile.py`), not interpreted from its sources."""
    found = find_spec(_COMPILED)
    return found is not None and not str(found.origin).endswith(".py")


def why_interpreted(path: list[str] | None = None) -> str | None:
    """Why the core is interpreted, and what to do about it; None: it is compiled.

    Args:
        path: where Python looks for packages; by default `sys.path`.
    """
    if is_compiled():
        return None
    own = Path(__file__).parent
    for folder in sys.path if path is None else path:
        other = Path(folder) / "connector"
        if other.resolve() != own.resolve() and any(other.glob("switch/driver.*.so")):
            return (
                f"the sources in {own.parent} come before the compiled package in {folder}: start it "
                "from another folder, or as `connector`"
            )
    return f"the package in {own.parent} was installed without compiling its core, or to be edited"
