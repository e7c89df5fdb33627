"""Faults that a replay can make on purpose, so that the live path can be seen coping with them.

A specification is a list of faults between semicolons, each `kind:key=value,key=value`:

    drop:at=10,n=50        50 samples (or volumes) are never sent; the count goes on
    duplicate:at=5,n=10    10 samples are sent twice, with the same stamps and the same count
    late:at=8,by=0.3       the chunk or volume at 8 s, and what follows it, waits 0.3 s longer
    stall:at=20,for=2      nothing is sent for 2 s, then the backlog at once
    kill:at=12,for=3       the sending process dies by SIGKILL and is back 3 s later, same source_id
    jitter:sd=0.005        each stamp is off by a normal error of 5 ms
    skew:ppm=100           the device's clock is 100 millionths fast
    seed=1                 of the jitter

`at` counts seconds of the recording from the first sample of the signal (`stall` and `kill`: of the
recording); `for` and `by` are seconds as they pass in the room, whatever the speed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from models.errors import SettingError
from stream.recordings import RecordedSignal

__all__ = [
    "Drop",
    "Duplicate",
    "Fault",
    "FaultPlan",
    "Jitter",
    "Kill",
    "Late",
    "Run",
    "Skew",
    "Stall",
    "parse_faults",
    "signal_runs",
]


@dataclass(frozen=True, slots=True)
class Drop:
    """`n` samples from `at_s` on are never sent."""

    at_s: float
    n: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """`n` samples from `at_s` on are sent twice."""

    at_s: float
    n: int


@dataclass(frozen=True, slots=True)
class Late:
    """What is due at `at_s` waits `by_s` longer, and what follows queues behind it."""

    at_s: float
    by_s: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing is sent for `for_s`, then the backlog at once."""

    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """The sending process dies and is back after `for_s`."""

    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Jitter:
    """Normal error of each stamp."""

    sd_s: float


@dataclass(frozen=True, slots=True)
class Skew:
    """Error of the device's clock rate."""

    ppm: float


Fault: TypeAlias = Drop | Duplicate | Late | Stall | Kill | Jitter | Skew

_GRAMMAR: dict[str, tuple[Callable[..., Fault], tuple[str, ...]]] = {
    "drop": (Drop, ("at", "n")),
    "duplicate": (Duplicate, ("at", "n")),
    "late": (Late, ("at", "by")),
    "stall": (Stall, ("at", "for")),
    "kill": (Kill, ("at", "for")),
    "jitter": (Jitter, ("sd",)),
    "skew": (Skew, ("ppm",)),
}
_ALLOWED = "; ".join(
    f"{kind}:{','.join(f'{key}=' for key in keys)}" for kind, (_, keys) in _GRAMMAR.items()
)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All faults of a replay."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def drops(self) -> list[Drop]:
        """Return the drops, first one first."""
        return sorted((f for f in self.faults if isinstance(f, Drop)), key=lambda f: f.at_s)

    def duplicates(self) -> list[Duplicate]:
        """Return the duplicates, first one first."""
        return sorted((f for f in self.faults if isinstance(f, Duplicate)), key=lambda f: f.at_s)

    def lates(self) -> list[Late]:
        """Return the late chunks, first one first."""
        return sorted((f for f in self.faults if isinstance(f, Late)), key=lambda f: f.at_s)

    def stalls(self) -> list[Stall]:
        """Return the stalls, first one first."""
        return sorted((f for f in self.faults if isinstance(f, Stall)), key=lambda f: f.at_s)

    def kills(self) -> list[Kill]:
        """Return the deaths, first one first."""
        return sorted((f for f in self.faults if isinstance(f, Kill)), key=lambda f: f.at_s)

    @property
    def jitter_sd_s(self) -> float:
        """Standard deviation of the stamps' error; independent errors add up in squares."""
        return math.sqrt(sum(f.sd_s**2 for f in self.faults if isinstance(f, Jitter)))

    @property
    def clock_rate(self) -> float:
        """Seconds that the device counts in one true second."""
        return 1.0 + 1e-6 * sum(f.ppm for f in self.faults if isinstance(f, Skew))


def parse_faults(text: str) -> FaultPlan:
    """Read a fault specification (its grammar is at the top of this module).

    Raises
    ------
    SettingError
        If a kind, a key or a value is not one of those allowed; the message lists them.
    """
    faults: list[Fault] = []
    seed = 0
    for part in (piece.strip() for piece in text.split(";")):
        if not part:
            continue
        if part.startswith("seed="):
            seed = int(_number("seed", part.removeprefix("seed="), whole=True))
            continue
        kind, _, rest = part.partition(":")
        kind = kind.strip()
        if kind not in _GRAMMAR:
            raise SettingError(f"Unknown fault {kind!r} in {text!r}; expected one of {_ALLOWED}.")
        make, keys = _GRAMMAR[kind]
        values: dict[str, float | int] = {}
        for pair in (item.strip() for item in rest.split(",") if item.strip()):
            key, equals, value = (item.strip() for item in pair.partition("="))
            if not equals or key not in keys or key in values:
                raise SettingError(
                    f"Fault {part!r} has {pair!r}; expected each of "
                    f"{', '.join(f'{name}=NUMBER' for name in keys)} once."
                )
            values[key] = _number(key, value, whole=key == "n")
        missing = [key for key in keys if key not in values]
        if missing:
            raise SettingError(
                f"Fault {part!r} lacks {missing[0]}=; expected {kind}:"
                f"{','.join(f'{name}=NUMBER' for name in keys)}."
            )
        ordered = [values[key] for key in keys]
        faults.append(make(*ordered))
    plan = FaultPlan(tuple(faults), seed)
    _check_kills(plan)
    return plan


def _number(key: str, text: str, *, whole: bool = False) -> float | int:
    try:
        value = int(text) if whole else float(text)
    except ValueError as error:
        kind = "a whole number" if whole else "a number"
        raise SettingError(f"Fault entry {key}={text!r}: {kind} is expected.") from error
    if not math.isfinite(value) or (value < 0 and key != "ppm") or (key == "n" and value < 1):
        least = "at least 1" if key == "n" else "finite and not negative"
        raise SettingError(f"Fault entry {key}={text}: it must be {least}.")
    if key == "ppm" and abs(value) > 100_000:
        raise SettingError(f"Fault entry ppm={text}: at most 100000 (a tenth) either way.")
    return value


def _check_kills(plan: FaultPlan) -> None:
    kills = plan.kills()
    for before, after in itertools.pairwise(kills):
        if after.at_s <= before.at_s:
            raise SettingError(f"Two kill faults at {after.at_s:g} s; give each a time of its own.")


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of a signal that are sent one after another without a jump of the count."""

    start: int  # row
    stop: int  # row, one past the last
    first: int  # index of row `start` in the stream's own count
    kind: Literal["new", "again"] = "new"


def signal_runs(signal: RecordedSignal, plan: FaultPlan | None = None) -> list[Run]:
    """Return what of a signal is sent, in order, after its own gaps, drops and duplicates.

    Raises
    ------
    SettingError
        If a fault lies behind the end of the signal.
    """
    runs = [Run(s.start, s.stop, s.first) for s in signal.segments]
    if plan is None:
        return runs
    for drop in plan.drops():
        start = _row(signal, drop.at_s, "drop")
        runs = [piece for run in runs for piece in _without(run, start, start + drop.n)]
    for twice in plan.duplicates():
        start = _row(signal, twice.at_s, "duplicate")
        runs = [piece for run in runs for piece in _twice(run, start, start + twice.n)]
    if not any(run.kind == "new" for run in runs):
        raise SettingError(f"The drops leave no sample of {signal.name!r}; make n smaller.")
    return runs


def _row(signal: RecordedSignal, at_s: float, kind: str) -> int:
    # Half a sample of tolerance: 10 s times 250 Hz must be row 2500, whatever the rounding.
    wanted = signal.stamps[0] + at_s - 0.5 * signal.period_s
    row = int(np.searchsorted(signal.stamps, wanted))
    if row >= len(signal.stamps):
        raise SettingError(
            f"Fault {kind}:at={at_s:g} lies behind the end of {signal.name!r} "
            f"({signal.stamps[-1] - signal.stamps[0]:.3f} s); give an earlier time."
        )
    return row


def _part(
    run: Run, start: int, stop: int, kind: Literal["new", "again"] | None = None
) -> list[Run]:
    start, stop = max(start, run.start), min(stop, run.stop)
    if start >= stop:
        return []
    return [Run(start, stop, run.first + start - run.start, kind or run.kind)]


def _without(run: Run, start: int, stop: int) -> list[Run]:
    return _part(run, run.start, start) + _part(run, stop, run.stop)


def _twice(run: Run, start: int, stop: int) -> list[Run]:
    if run.kind != "new" or stop <= run.start or start >= run.stop:
        return [run]
    return (
        _part(run, run.start, stop) + _part(run, start, stop, "again") + _part(run, stop, run.stop)
    )
