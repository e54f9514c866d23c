"""All attacks at once on one node, while honest peers pay; see scripts/attack."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.hostile.campaign import P99_TIMES_MAX, Campaign, Plan
from tests.hostile.catalogue import ATTACKS
from tests.hostile.report import Report

LOG_STALLS: Final = "log-stalls"
"""The one attack that needs no process: whoever reads the node's log stops reading."""
_LOG_STALLS_SAYS: Final = "The log is not read; 10 s in every 30"
EXIT_INTERRUPTED: Final = 130
_QUIET_SHARE: Final = 1 / 6
_QUIET_SECONDS_MAX: Final = 120.0


def main() -> int:
    """Exit status: 0 all bounds hold, 1 one is broken, 2 wrong command line, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="scripts/attack", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="under attack (60)")
    parser.add_argument("--attacks", metavar="NAME,...", help="only these; default: all")
    parser.add_argument("--list", action="store_true", help="name them, with their rates")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--seed", type=int, help="of what attackers choose by chance")
    parser.add_argument(
        "--quiet", type=float, metavar="SECONDS",
        help="measured before (a sixth of the time, at most 120)",
    )  # fmt: skip
    parser.add_argument(
        "--p99", type=float, default=P99_TIMES_MAX, metavar="TIMES",
        help="how many times its quiet value the p99 may be (2)",
    )  # fmt: skip
    parser.add_argument("--keep", metavar="FOLDER", help="keep the node's files there")
    options = parser.parse_args()
    if options.list:
        print("\n".join(_listed()))
        return 0
    names = [*ATTACKS, LOG_STALLS]
    wanted = options.attacks.split(",") if options.attacks else names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"no such attack: {', '.join(unknown)}; --list names all")
    if not sys.platform.startswith("linux"):
        parser.error("needs Linux: /proc, and 127.0.0.0/8 for addresses of many attackers")
    if shutil.which("openssl") is None:
        parser.error("needs openssl, which makes the node's certificate")
    if options.keep is not None and Path(options.keep).exists():
        parser.error(f"{options.keep} is there already: its books would be mixed with ours")
    seconds = options.minutes * 60
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    plan = Plan(
        quiet_seconds=min(_QUIET_SECONDS_MAX, seconds * _QUIET_SHARE)
        if options.quiet is None
        else options.quiet,
        attack_seconds=seconds,
        attacks={name: ATTACKS[name] for name in wanted if name != LOG_STALLS},
        stalls_log=LOG_STALLS in wanted,
        seed=seed,
        p99_times_max=options.p99,
    )
    try:
        report = asyncio.run(_run(plan, options.keep))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED
    print(json.dumps(report.as_json(), indent=2) if options.json else report.as_text())
    print(f"{'interrupted; ' if report.interrupted else ''}--seed {seed}", file=sys.stderr)
    if report.interrupted:
        return EXIT_INTERRUPTED
    return 0 if report.ok else 1


def _listed() -> list[str]:
    width = max(map(len, ATTACKS))
    lines = [
        f"{name:{width}}  {(attack.__doc__ or '').strip().splitlines()[0]}\n"
        f"{'':{width}}  a second: {attack.rate}"
        for name, attack in ATTACKS.items()
    ]
    return [*lines, f"{LOG_STALLS:{width}}  {_LOG_STALLS_SAYS}"]


async def _run(plan: Plan, keep: str | None) -> Report:
    """Ctrl-C ends the attacks, and the figures so far are given; a second one ends all."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None

    def interrupted() -> None:
        if stopped.is_set():
            this.cancel()
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    with tempfile.TemporaryDirectory(prefix="hostile-") as temporary:
        folder = Path(temporary)
        if keep is not None:
            folder = Path(keep)
            folder.mkdir(parents=True)
        return await Campaign(plan, folder, _say).run(stopped)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
