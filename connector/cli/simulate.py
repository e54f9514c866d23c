"""`connector simulate`: a network of whole nodes in virtual time, with faults, judged from outside."""

import gc
import json
import re
import secrets
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from connector.base.clock import SystemClock
from connector.cli import bounds
from connector.cli.common import finite
from connector.cli.process import EXIT_INTERRUPTED
from connector.simulation.draw import NODES_MAX, make_plan
from connector.simulation.kinds import KNOWN_OPEN, Kind, default_kinds
from connector.simulation.plan import Plan

if TYPE_CHECKING:
    from connector.simulation.run import Outcome

# The nodes themselves are imported where they are run: other commands load this file as well.

EXIT_FOUND: Final = 1
EXIT_USAGE: Final = 2
_KEEP: Final = re.compile(r"none|[pf]\d+(,[pf]\d+)*")
_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True)
class _Arguments:
    seed: int | None
    minutes: float
    nodes: int | None
    only: frozenset[Kind] | None
    without: frozenset[Kind]
    keep: str | None
    shrink_seconds: float
    go_on: bool
    print_seeds: bool
    as_json: bool


def simulate(
    seed: Annotated[Optional[int], typer.Option(help="Run this seed and no other.")] = None,
    minutes: Annotated[
        float,
        typer.Option(
            min=0.001, help="Without --seed: for how long to try new seeds.", callback=finite
        ),
    ] = 1.0,
    nodes: Annotated[
        Optional[int],
        typer.Option(min=1, max=NODES_MAX, help="Nodes in the network. Default: the seed decides."),
    ] = None,
    only: Annotated[
        str, typer.Option(help="Only these kinds of faults and traffic, comma-separated.")
    ] = "",
    without: Annotated[str, typer.Option(help="All kinds but these, comma-separated.")] = "",
    keep: Annotated[
        Optional[str],
        typer.Option(help="With --seed: parts of the plan to keep, as a failure prints them."),
    ] = None,
    shrink_seconds: Annotated[
        float,
        typer.Option(
            min=0, help="How long to look for a shorter story of a failure.", callback=finite
        ),
    ] = 60.0,
    go_on: Annotated[bool, typer.Option("--go-on", help="Do not stop at a failure.")] = False,
    print_seeds: Annotated[
        bool,
        typer.Option(
            "--print-seeds",
            help="Print each seed on a line before it is run, also of runs that pass.",
        ),
    ] = False,
    kinds: Annotated[bool, typer.Option("--kinds", help="List the kinds and exit.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per seed.")
    ] = False,
) -> None:
    """Run networks of whole nodes in virtual time, with faults, and audit every unit."""
    if kinds:
        for kind in Kind:
            known = f"off: {KNOWN_OPEN[kind]}" if kind in KNOWN_OPEN else ""
            print(f"{kind.value:<20}{known}".rstrip())
        return
    if keep is not None and seed is None:
        raise typer.BadParameter("needs --seed", param_hint="--keep")
    if keep is not None and not _KEEP.fullmatch(keep):
        raise typer.BadParameter("is a list such as p1,p2,f1, or none", param_hint="--keep")
    if print_seeds and as_json:
        raise typer.BadParameter("--json prints every seed already", param_hint="--print-seeds")
    arguments = _Arguments(
        seed=seed,
        minutes=minutes,
        nodes=nodes,
        only=_kinds("--only", only) if only else None,
        without=_kinds("--without", without),
        keep=keep,
        shrink_seconds=shrink_seconds,
        go_on=go_on,
        print_seeds=print_seeds,
        as_json=as_json,
    )
    # Worlds are thrown away whole: looking for cycles while one runs only costs time.
    gc.freeze()
    gc.disable()
    command = _Command(arguments)
    try:
        code = command.run()
    except KeyboardInterrupt:
        command.interrupted()
        code = EXIT_INTERRUPTED
    finally:
        gc.enable()
        gc.unfreeze()
    if code:
        raise typer.Exit(code)


class _Command:
    def __init__(self, arguments: _Arguments) -> None:
        self._arguments = arguments
        self._kinds = default_kinds(arguments.only, arguments.without)
        self._began_s = _real_s()
        self._totals = dict.fromkeys(
            ("seeds", "payments", "packets", "faults", "crashes", "excused"), 0
        )
        self._virtual_s = 0.0
        self._shows_progress = sys.stderr.isatty() and not arguments.as_json

    def run(self) -> int:
        arguments = self._arguments
        if arguments.seed is not None:
            failed = self._seed(arguments.seed)
        else:
            failed = False
            deadline_s = self._began_s + arguments.minutes * 60
            while not self._totals["seeds"] or _real_s() < deadline_s:
                failed = self._seed(secrets.randbits(40)) or failed
                if failed and not arguments.go_on:
                    break
        self._clear()
        self._summary(failed)
        return EXIT_FOUND if failed else 0

    def interrupted(self) -> None:
        """Say so, and the figures of the seeds that were run to their end."""
        self._clear()
        print("connector: interrupted", file=sys.stderr)
        if not self._arguments.as_json:
            print(f"so far: {self._line()}")

    def _seed(self, seed: int) -> bool:
        """Run one seed; whether it failed."""
        from connector.simulation.run import run_plan

        arguments = self._arguments
        if arguments.print_seeds:
            self._clear()
            # Before the run: the seed of one that never ends, or that ends the process, is known as well.
            print(f"seed {seed}", flush=True)
        plan = make_plan(seed, kinds=self._kinds, nodes=arguments.nodes)
        if arguments.keep is not None:
            plan = _kept(plan, arguments.keep)
        outcome = run_plan(plan)
        self._count(outcome)
        if arguments.as_json:
            print(json.dumps(_as_json(outcome)), flush=True)
        elif self._shows_progress:
            self._progress()
        if not outcome.findings:
            return False
        if not arguments.as_json:
            self._clear()
            self._tell(outcome)
        return True

    def _tell(self, outcome: "Outcome") -> None:
        from connector.simulation import story

        options = self._options()
        print(f"seed {outcome.plan.seed} fails; looking for its shortest story ...", flush=True)
        shortest = story.shrink(outcome, seconds_max=self._arguments.shrink_seconds)
        print("\n".join(story.tell(shortest)))
        print()
        command = story.command(shortest, options=options)
        if len(command) <= bounds.KEEP_SHOWN_CHARACTERS_MAX:
            print(f"the same again:  {command}")
        print(
            f"the whole seed:  connector simulate --seed {outcome.plan.seed}{' ' + options if options else ''}"
        )

    def _options(self) -> str:
        arguments = self._arguments
        options: list[str] = []
        if arguments.nodes:
            options.append(f"--nodes {arguments.nodes}")
        if arguments.only is not None:
            options.append("--only " + ",".join(sorted(arguments.only)))
        if arguments.without:
            options.append("--without " + ",".join(sorted(arguments.without)))
        return " ".join(options)

    def _count(self, outcome: "Outcome") -> None:
        self._totals["seeds"] += 1
        for name in ("payments", "packets", "faults", "crashes"):
            self._totals[name] += getattr(outcome, name)
        self._totals["excused"] += sum(outcome.excused.values())
        self._virtual_s += outcome.virtual_s

    def _line(self) -> str:
        totals = self._totals
        seconds = max(_real_s() - self._began_s, 1e-9)
        return (
            f"{totals['seeds']} seeds, {totals['packets']} packets, {totals['faults']} faults, "
            f"{totals['crashes']} crashes, {self._virtual_s / 60:.1f} virtual minutes, "
            f"{totals['packets'] / seconds:.0f} packets/s"
        )

    def _progress(self) -> None:
        print(f"\r{self._line()}\x1b[K", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._shows_progress:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _summary(self, failed: bool) -> None:
        if self._arguments.as_json:
            return
        excused = self._totals["excused"]
        documented = f"; {excused} losses that the documentation names" if excused else ""
        print(f"{'FAILED' if failed else 'ok'}: {self._line()}{documented}")


def _as_json(outcome: "Outcome") -> dict[str, Any]:
    return {
        "seed": outcome.plan.seed,
        "digest": outcome.digest,
        "nodes": len(outcome.plan.nodes),
        "payments": outcome.payments,
        "fulfilled": outcome.fulfilled,
        "packets": outcome.packets,
        "faults": outcome.faults,
        "crashes": outcome.crashes,
        "virtualSeconds": round(outcome.virtual_s, 3),
        "excused": outcome.excused,
        "findings": [asdict(one) for one in outcome.findings],
    }


def _kept(plan: Plan, text: str) -> Plan:
    parts = [part for part in text.split(",") if part and part != "none"]
    payments, faults = (
        [int(part[1:]) for part in parts if part.startswith(letter)] for letter in "pf"
    )
    return plan.keep(payments, faults)


def _kinds(option: str, text: str) -> frozenset[Kind]:
    try:
        return frozenset(Kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        print(f"connector: {option}: {error}; `simulate --kinds` lists them", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None


def _real_s() -> float:
    """Real time."""
    return _CLOCK.monotonic_s()
