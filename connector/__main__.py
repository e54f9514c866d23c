"""Entry point of `python -m connector`, and of the commands `connector` and `ilp-connector`."""

import sys

# Before anything that an older Python cannot read; installers ask for the version themselves.
if sys.version_info < (3, 11):  # noqa: UP036 - whoever has not installed the package can have any
    sys.exit(
        "connector: Python 3.11 or newer is needed; this is {}.{}.{} ({})".format(
            *sys.version_info[:3], sys.executable
        )
    )

from connector.cli import process


def main() -> None:
    """Run the command line; a health check without loading what it does not need."""
    process.prepare()
    process.run(_command)


def _command() -> None:
    if sys.argv[1:2] == ["healthcheck"]:
        from connector.tools.healthcheck import main as healthcheck  # noqa: PLC0415 - loads next to nothing

        code = healthcheck(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    try:
        from connector.cli.main import main as commands  # noqa: PLC0415 - loads everything
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("connector"):
            raise
        sys.exit(
            f"connector: {error.name} is not installed for {sys.executable}: install the package and "
            "what it needs with `pip install .` in the folder of its sources"
        )
    process.loaded()
    commands()


if __name__ == "__main__":
    main()
