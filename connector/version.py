"""The version of the package; its own module because parts that the package imports need it."""

from importlib.util import find_spec

__version__ = "0.1.0"


def is_compiled() -> bool:
    """Whether the core is compiled (`hatch_compile.py`), not interpreted from its sources."""
    found = find_spec("connector.switch.driver")
    return found is not None and not str(found.origin).endswith(".py")
