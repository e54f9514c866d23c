"""Compiles the modules that every packet passes, with mypyc: the same sources, about twice as fast.

    python hatch_compile.py extensions FOLDER   one library, and an extension for each module
    python hatch_compile.py package FOLDER      the whole package with them, unless it is there

`pip install .` does it where there is a C compiler (hatch_build.py). The sources are installed as
well; a module without an extension beside it is interpreted. Nothing but the speed differs, which
`scripts/test --compiled` shows. Needs mypy and setuptools; the extensions are for the interpreter
that runs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from setuptools import Command

ROOT: Final = Path(__file__).resolve().parent
MODULES: Final = (
    "connector/base/clock.py",
    "connector/btp/frames.py",
    "connector/btp/link.py",
    "connector/btp/links.py",
    "connector/btp/packet.py",
    "connector/btp/session.py",
    "connector/btp/standstill.py",
    "connector/ilp/packet.py",
    "connector/accounting/availability.py",
    "connector/accounting/chart.py",
    "connector/accounting/entries.py",
    "connector/accounting/fulfilments.py",
    "connector/accounting/manager.py",
    "connector/accounting/mirror.py",
    "connector/accounting/promises.py",
    "connector/accounting/recovery.py",
    "connector/accounting/reports.py",
    "connector/accounting/turn.py",
    "connector/accounting/writer.py",
    "connector/ledger/kept.py",
    "connector/ledger/rows.py",
    "connector/ledger/machine.py",
    "connector/ledger/model.py",
    "connector/oer.py",
    "connector/peering/model.py",
    "connector/peering/routing.py",
    "connector/peering/throughput.py",
    "connector/switch/driver.py",
    "connector/switch/flight.py",
    "connector/switch/inbox.py",
    "connector/switch/loops.py",
    "connector/switch/observer.py",
    "connector/switch/rules.py",
    "connector/switch/shortages.py",
    "connector/switch/switch.py",
    "connector/switch/terms.py",
    "connector/telemetry/histogram.py",
)
REQUIREMENTS: Final = ("mypy>=2.4,<3", "setuptools>=77")
# Types are checked elsewhere, with everything installed; here only the compiled modules count.
_MYPY_INI: Final = """[mypy]
python_version = {version}
follow_imports = silent
ignore_missing_imports = true
explicit_package_bases = true
disable_error_code = unused-ignore
cache_dir = {cache}
"""


def missing() -> str | None:
    """Why nothing can be compiled here; None: it can."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(os.environ.get("CC", compiler).split()[0]) is None:
        return f"there is no C compiler ({compiler})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's headers are not installed (Python.h)"
    return None


def make_extensions(folder: Path) -> None:
    """Compile `MODULES` into `folder`.

    Raises:
        SystemExit: mypyc or the compiler found a fault, which stands on stderr.
    """
    from mypyc.build import mypycify  # noqa: PLC0415 - only whoever compiles has it
    from setuptools import Distribution  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as place, contextlib.chdir(ROOT):
        settings = Path(place, "mypy.ini")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        settings.write_text(_MYPY_INI.format(version=version, cache=Path(place, "cache")), "utf-8")
        extensions = mypycify(
            ["--config-file", str(settings), *MODULES],
            # More takes twice as long to compile, and packets notice nothing of it.
            opt_level="1",
            debug_level="0",
            target_dir=place,
            group_name="connector",
            # A file for each module, so that they can be compiled at the same time.
            multi_file=True,
        )
        command = _build_ext()(Distribution({"name": "connector", "ext_modules": extensions}))
        command.build_lib = str(folder)
        command.build_temp = place
        command.ensure_finalized()
        command.run()


def _build_ext() -> type[Command]:
    """`build_ext` that compiles the files of an extension at the same time: one a processor."""
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    class ParallelBuild(build_ext):
        def build_extensions(self) -> None:
            compile_all = self.compiler.compile

            def compile_each(sources: list[str], **options: Any) -> list[str]:
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    parts = pool.map(lambda one: compile_all([one], **options), sources)
                    return [name for part in parts for name in part]

            self.compiler.compile = compile_each
            super().build_extensions()

    return ParallelBuild


def make_package(folder: Path) -> bool:
    """Put the package with its extensions into `folder`; gives whether that was needed."""
    sources = sorted(path for path in (ROOT / "connector").rglob("*") if _belongs(path))
    total = hashlib.sha256(f"{sys.version} {MODULES}".encode())
    for path in sources:
        total.update(f"{path.relative_to(ROOT)} ".encode() + path.read_bytes())
    stamp = folder / "sources.sha256"
    if stamp.exists() and stamp.read_text("ascii") == total.hexdigest():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    for path in sources:
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    make_extensions(folder)
    stamp.write_text(total.hexdigest(), "ascii")
    return True


def _belongs(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".pyc", ".so", ".pyd")


def main(arguments: list[str]) -> None:
    """The program."""
    match arguments:
        case [("extensions" | "package") as what, folder]:
            if (why := missing()) is not None:
                sys.exit(f"Nothing can be compiled: {why}.")
            place = Path(folder).resolve()
            if what == "package":
                make_package(place)
            else:
                make_extensions(place)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
