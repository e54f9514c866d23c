"""The report of a run: its figures, and whether its bounds hold."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


def percentile(values: Iterable[float], share: float) -> float:
    """0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@dataclass(slots=True)
class Phase:
    """What was measured in one of the two phases."""

    seconds: float = 0.0
    packets_ms: array[float] = field(default_factory=lambda: array("d"))
    echoes_ms: array[float] = field(default_factory=lambda: array("d"))
    """Of a line to `cat` and back: the machine's own delay."""
    log_ins_ms: array[float] = field(default_factory=lambda: array("d"))
    """Of an honest peer that connects anew, the TLS handshake included."""
    cpu_seconds: float = 0.0
    descriptors_max: int = 0
    memory_mib_max: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "seconds": round(self.seconds, 1),
            "packets": len(self.packets_ms),
            "p50Ms": percentile(self.packets_ms, 0.5),
            "p99Ms": percentile(self.packets_ms, 0.99),
            "maxMs": percentile(self.packets_ms, 1.0),
            "machineP99Ms": percentile(self.echoes_ms, 0.99),
            "logIns": len(self.log_ins_ms),
            "logInMaxMs": percentile(self.log_ins_ms, 1.0),
            "cpuPercent": round(100 * self.cpu_seconds / self.seconds) if self.seconds else 0,
            "memoryMib": round(self.memory_mib_max),
            "descriptors": self.descriptors_max,
        }


@dataclass(slots=True, frozen=True)
class Bound:
    """One thing that must hold."""

    name: str
    holds: bool
    said: str


@dataclass(slots=True)
class Report:
    """All that a run has seen."""

    compiled: bool = False
    interrupted: bool = False
    quiet: Phase = field(default_factory=Phase)
    attacked: Phase = field(default_factory=Phase)
    load_1m: list[float] = field(default_factory=list)
    """Of the machine, once a minute."""
    attacks: dict[str, dict[str, int]] = field(default_factory=dict)
    honest: dict[str, int] = field(default_factory=dict)
    log_events: dict[str, int] = field(default_factory=dict)
    log_lines_lost: int = 0
    audit: str = ""
    bounds: list[Bound] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every bound holds."""
        return bool(self.bounds) and all(bound.holds for bound in self.bounds)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "ok": self.ok,
            "interrupted": self.interrupted,
            "compiled": self.compiled,
            "quiet": self.quiet.as_json(),
            "attacked": self.attacked.as_json(),
            "load1m": self.load_1m,
            "attacks": self.attacks,
            "honest": self.honest,
            "logEvents": self.log_events,
            "logLinesLost": self.log_lines_lost,
            "audit": self.audit.splitlines(),
            "bounds": {
                bound.name: {"holds": bound.holds, "said": bound.said} for bound in self.bounds
            },
        }

    def as_text(self) -> str:
        """For people."""
        lines = [
            f"{name:7} {figures['seconds']:6.0f} s  {figures['packets']:7} packets  "
            f"p50 {figures['p50Ms']:.1f}  p99 {figures['p99Ms']:.1f}  longest {figures['maxMs']:.0f} ms  "
            f"`cat` p99 {figures['machineP99Ms']:.1f} ms  {figures['memoryMib']} MiB  "
            f"CPU {figures['cpuPercent']} %"
            for name, figures in (
                ("quiet", self.quiet.as_json()),
                ("attack", self.attacked.as_json()),
            )
        ]
        lines += [
            f"{name:17} " + ", ".join(f"{count} {what}" for what, count in sorted(done.items()))
            for name, done in self.attacks.items()
        ]
        core = "compiled" if self.compiled else "interpreted"
        lines.append(f"core: {core}; load of the machine, each minute: {self.load_1m}")
        if self.log_lines_lost:
            lines.append(f"log: {self.log_lines_lost} lines lost while nobody read them")
        lines += [
            f"{'ok    ' if bound.holds else 'BROKEN'} {bound.name}: {bound.said}"
            for bound in self.bounds
        ]
        return "\n".join(lines)
