"""From feature windows to samples: those windows that answer to one clip, whatever the lag.

The features of a run are computed once; a lag only chooses other rows of them.

    runs --run_features--> RunFeatures --standardise_runs--> RunFeatures --make_samples--> Samples
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Event, Run
from calibration.data.samples import Samples
from calibration.run_features import RunFeatures
from calibration.targets import TargetSource
from models.errors import SettingError

__all__ = ["WindowChoice", "WindowRows", "choose_windows", "make_samples"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WindowChoice:
    """Which windows become samples, and which stretch of the stimulus each is paired with.

    A window is taken when the stretch that it answers to, from `t_stop - lag - answer_s` to
    `t_stop - lag`, lies within one presented clip. Brain2Music (arXiv:2307.11078): `all` with
    `stretch_s` the width of the target and `align` "start". One window for each clip, as in
    Decoding Musical Perception: `clip` with a feature window as long as the clip.
    """

    choose: Literal["all", "clip"] = "all"  # every window, or the one nearest the clip's middle
    hop_s: float | None = None  # of `all`: at least this from one window to the next
    exclude_s: tuple[float, float] = (0.0, 0.0)  # s left out at a clip's start and end
    tolerance_s: float | None = None  # s a stretch may stick out; None: half a sample or volume
    stretch_s: float | None = None  # length of the target's stretch; None: as the window answers
    align: Literal["start", "stop"] = "stop"  # where that stretch lies in the answered one
    # Presentations that are one sample: of a stimulus, of a stimulus in one run, or none. `never`
    # is for designs whose events name a class, not a sound; split those by run or session.
    repeat: Literal["stimulus", "run", "never"] = "stimulus"

    def __post_init__(self) -> None:
        bad = (
            self.choose not in ("all", "clip")
            or self.align not in ("start", "stop")
            or self.repeat not in ("stimulus", "run", "never")
        )
        lengths = (*self.exclude_s, self.hop_s or 0.0, self.tolerance_s or 0.0)
        if bad or len(self.exclude_s) != 2 or not all(0 <= x < np.inf for x in lengths):
            raise SettingError(
                f"Expected a choice of windows with lengths of 0 s or more, got {self}."
            )
        if self.stretch_s is not None and not 0 < self.stretch_s < np.inf:
            raise SettingError(f"Expected stretch_s above 0 s, got {self.stretch_s}.")


@dataclass(frozen=True, slots=True, eq=False)
class WindowRows:
    """Chosen windows: what each presentation of each stretch of stimulus is, row by row."""

    run: NDArray[np.int64]  # (n, n_repetitions) number of the run; -1: no such repetition
    window: NDArray[np.int64]  # (n, n_repetitions) window of that run; -1
    event: NDArray[np.int64]  # (n, n_repetitions) event of that run; -1
    start_s: NDArray[np.float64]  # (n,) of the target's stretch, from the start of the stimulus
    stop_s: NDArray[np.float64]  # (n,)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.event)

    def take(self, rows: NDArray[np.int64]) -> WindowRows:
        """Return some of the rows."""
        return WindowRows(
            self.run[rows],
            self.window[rows],
            self.event[rows],
            self.start_s[rows],
            self.stop_s[rows],
        )


def choose_windows(
    runs: Sequence[RunFeatures], *, lag_s: float, choice: WindowChoice | None = None
) -> WindowRows:
    """Choose the windows that answer to one clip, and bring presentations of the same together.

    Parameters
    ----------
    runs : sequence of RunFeatures
    lag_s : float
        Brain after stimulus, from the end of the stretch to the end of the window, as live.
    choice : WindowChoice, optional

    Returns
    -------
    rows : WindowRows
        In the order of the first presentation. No rows where nothing fits.

    Raises
    ------
    SettingError
        If the lag is not finite.
    """
    if not np.isfinite(lag_s):
        raise SettingError(f"Expected a lag in s, got {lag_s}.")
    choice = choice or WindowChoice()
    origin: dict[tuple[str, ...], float] = {}  # of a stimulus: start of its first window
    seen: dict[tuple[tuple[str, ...], int], int] = {}  # stimulus, step -> row
    cells: list[list[tuple[int, int, int]]] = []  # run, window, event of each presentation
    stretches: list[tuple[float, float]] = []
    for number, run in enumerate(runs):
        for index, event in enumerate(run.run.events):
            windows, start = _windows_of(run, event, lag_s, choice)
            if not len(windows):
                continue
            name = _identity(run.run, event, choice, number, index)
            # Onsets need not fall on volumes: presentations are matched to the nearest step.
            first = origin.setdefault(name, float(start[0]))
            shift = int(np.floor((start[0] - first) / run.hop_s + 0.5)) - int(windows[0])
            for window, begin in zip(windows.tolist(), start.tolist(), strict=True):
                key = (name, window + shift)
                if key in seen:
                    cells[seen[key]].append((number, window, index))
                    continue
                seen[key] = len(cells)
                cells.append([(number, window, index)])
                stretches.append(_stretch(begin, run, event, choice))
    table = _table(cells)
    stretch = np.array(stretches, np.float64).reshape(len(cells), 2)
    return WindowRows(table[0], table[1], table[2], stretch[:, 0], stretch[:, 1])


def _table(cells: list[list[tuple[int, int, int]]]) -> NDArray[np.int64]:
    """Return lists of presentations as one array (3, n, n_repetitions), -1 where there is none."""
    table = np.full((3, len(cells), max(map(len, cells), default=1)), -1, np.int64)
    for row, cell in enumerate(cells):
        table[:, row, : len(cell)] = np.array(cell).T
    return table


def _identity(
    run: Run, event: Event, choice: WindowChoice, number: int, index: int
) -> tuple[str, ...]:
    """Return what two presentations have in common when they are repetitions of each other."""
    if choice.repeat == "stimulus":
        return run.participant, event.stimulus
    if choice.repeat == "run":
        return run.participant, event.stimulus, str(number)
    return run.participant, event.stimulus, str(number), str(index)


def _windows_of(
    run: RunFeatures, event: Event, lag_s: float, choice: WindowChoice
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the windows that answer to a presentation, and where their stretch starts in it."""
    tolerance = run.run.tr_s / 2 if choice.tolerance_s is None else choice.tolerance_s
    # Half a volume, but not both windows that stick out by exactly that; 1 us for rounding.
    tolerance += -1e-6 if choice.tolerance_s is None else 1e-6
    stop = run.t_stop_s - lag_s - event.onset_s
    low = choice.exclude_s[0] + run.answer_s - tolerance
    high = event.duration_s - choice.exclude_s[1] + tolerance
    windows = np.arange(np.searchsorted(stop, low), np.searchsorted(stop, high, side="right"))
    start = stop[windows] - run.answer_s
    if choice.choose == "clip" and len(windows):
        middle = (choice.exclude_s[0] + event.duration_s - choice.exclude_s[1]) / 2
        keep = np.argmin(np.round(np.abs(start + run.answer_s / 2 - middle), 6))
        windows, start = windows[[keep]], start[[keep]]
    elif choice.hop_s is not None:
        every = max(1, int(np.ceil(choice.hop_s / run.hop_s - 1e-3)))
        windows, start = windows[::every], start[::every]
    return windows.astype(np.int64), start


def _stretch(
    start: float, run: RunFeatures, event: Event, choice: WindowChoice
) -> tuple[float, float]:
    """Return the stretch of stimulus that a window is paired with, moved into the clip."""
    length = min(choice.stretch_s or run.answer_s, event.duration_s)
    begin = start if choice.align == "start" else start + run.answer_s - length
    begin = min(max(begin, 0.0), event.duration_s - length)
    return begin, begin + length


def make_samples(
    runs: Sequence[RunFeatures],
    *,
    lag_s: float,
    targets: TargetSource,
    choice: WindowChoice | None = None,
) -> Samples:
    """Return the windows of runs, paired with what was heard `lag_s` before.

    Parameters
    ----------
    runs : sequence of RunFeatures
        Standardised (`standardise_runs`).
    lag_s : float
        Brain after stimulus, s.
    targets : TargetSource
    choice : WindowChoice, optional

    Returns
    -------
    samples : Samples
        Presentations of the same stretch are repetitions of one row, also across runs; no window
        spans two clips or two runs. A window with a value that is not finite is left out.

    Raises
    ------
    SettingError
        If no window answers to one clip alone, or a target cannot be made.
    FileError
        If the sound of a stimulus cannot be read.
    """
    rows = _finite(runs, choose_windows(runs, lag_s=lag_s, choice=choice))
    if not len(rows):
        raise SettingError(_why_none(runs, lag_s))
    n, most = rows.run.shape
    x = np.full((n, most, runs[0].n_features), np.nan, np.float32)
    sessions, names = np.full((2, n, most), "", dtype=object)
    for number, run in enumerate(runs):
        at = np.nonzero(rows.run == number)
        x[at] = run.values[rows.window[at]]
        sessions[at], names[at] = run.run.session, run.run.run
    first = [runs[number].run for number in rows.run[:, 0]]
    events = [run.events[event] for run, event in zip(first, rows.event[:, 0], strict=True)]
    clips = [event.stimulus for event in events]
    order = [
        number * 1e6 + runs[number].t_start_s[window]
        for number, window in zip(rows.run[:, 0], rows.window[:, 0], strict=True)
    ]
    return Samples(
        x=x,
        y=targets.targets(clips, rows.start_s, rows.stop_s),
        clip=np.array(clips, np.str_),
        label=np.array([event.label for event in events], np.str_),
        start_s=rows.start_s,
        stop_s=rows.stop_s,
        person=np.array([run.participant for run in first], np.str_),
        session=sessions.astype(np.str_),
        run=names.astype(np.str_),
        previous_clip=_previous_clips(runs, rows),
        order=np.array(order, np.float64),
    )


def _previous_clips(runs: Sequence[RunFeatures], rows: WindowRows) -> NDArray[np.str_]:
    """Return what was heard just before: most often, where that differs between repetitions.

    A repetition at the start of its run, before which nothing was heard, has no say.
    """
    before = [_befores(run.run.events) for run in runs]
    result = []
    for numbers, events in zip(rows.run, rows.event, strict=True):
        heard = [before[n][e] for n, e in zip(numbers, events, strict=True) if n >= 0]
        counts = Counter(clip for clip in heard if clip)
        result.append(counts.most_common(1)[0][0] if counts else "")
    return np.array(result, np.str_)


def _befores(events: Sequence[Event]) -> list[str]:
    """Return the stimulus before each event of a run; "" for the first."""
    order = sorted(range(len(events)), key=lambda k: events[k].onset_s)
    result = [""] * len(events)
    for before, after in pairwise(order):
        result[after] = events[before].stimulus
    return result


def _finite(runs: Sequence[RunFeatures], rows: WindowRows) -> WindowRows:
    """Leave windows out that hold a value that is not finite."""
    bad = [~np.isfinite(run.values.sum(axis=1, dtype=np.float64)) for run in runs]
    if not any(flags.any() for flags in bad):
        return rows
    kept, cells, n_left_out = [], [], 0
    for row, columns in enumerate(np.stack([rows.run, rows.window, rows.event], axis=2).tolist()):
        pairs = [(r, w, e) for r, w, e in columns if r >= 0]
        good = [pair for pair in pairs if not bad[pair[0]][pair[1]]]
        n_left_out += len(pairs) - len(good)
        if good:
            kept.append(row)
            cells.append(good)
    if n_left_out:
        _log.warning("%d windows with values that are not finite were left out.", n_left_out)
    table = _table(cells)
    return WindowRows(table[0], table[1], table[2], rows.start_s[kept], rows.stop_s[kept])


def _why_none(runs: Sequence[RunFeatures], lag_s: float) -> str:
    durations = [event.duration_s for run in runs for event in run.run.events]
    if not durations:
        return "The runs have no events, so nothing is known of what was heard."
    answer = max((run.answer_s for run in runs), default=0.0)
    return (
        f"No window of {answer:g} s, {lag_s:g} s after the sound, answers to one clip alone; the "
        f"clips last {min(durations):g} to {max(durations):g} s. Shorten the feature window or "
        "exclude_s, or allow a tolerance_s."
    )
