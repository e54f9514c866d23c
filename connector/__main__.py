"""`python -m connector`, and what `ilp-connector` runs."""

import sys


def main() -> None:
    """Run the command line; a health check without loading what it does not need."""
    if sys.argv[1:] == ["healthcheck"]:
        from connector.tools.healthcheck import main as healthcheck  # noqa: PLC0415 - loads next to nothing

        code = healthcheck()
        if code is not None:
            sys.exit(code)
    from connector.cli.main import main as commands  # noqa: PLC0415 - loads everything

    commands()


if __name__ == "__main__":
    main()
