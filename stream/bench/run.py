"""The whole measurement of a generator: changes alone and in a stream, lengths, jitter, load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.runtime import Device
from models.errors import SettingError
from models.stretch import FRAME_S, GeneratorInput
from stream.bench.busy import busy_cores
from stream.bench.changed import changed_after_s
from stream.bench.compute import ComputeTimes, time_changes, time_stretches, warm_up
from stream.bench.machine import describe_machine, load_average, resident_mb
from stream.bench.running import RING_S, RunningTimes, run_stream
from stream.bench.spread import Spread, spread_ms
from stream.bench.subject import Subject, open_subject, random_conditions, stretch_frames

__all__ = ["BenchResult", "BenchSettings", "run_bench"]

Progress = Callable[[str, float, float], None]

_N_CONDITIONS = 64


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What is measured, and for how long."""

    folder: Path  # a bundle with a generator, or an exported generator
    device: Device = "cpu"
    stretch_s: float | None = None  # None: the shortest that the generator makes
    changes: int = 1_000
    minutes: float | None = None  # of the running stream; None: as long as the changes take
    busy: bool = False  # again with a busy job on each core
    threads: int = 1
    ring_s: float = RING_S
    warm_up_s: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.changes < 1 or self.threads < 1 or self.seed < 0 or not self.warm_up_s >= 0.0:
            raise SettingError(
                "A measurement needs at least one change and one thread, a seed and a warm-up of 0 "
                f"or more, got {self.changes}, {self.threads}, {self.seed} and {self.warm_up_s}."
            )
        if self.minutes is not None and not 0.0 <= self.minutes <= 24 * 60:
            raise SettingError(
                f"A stream runs from 0 (none) to 1440 minutes, got {self.minutes:g} minutes."
            )


@dataclass(frozen=True, slots=True, eq=False)
class BenchResult:
    """All that was measured."""

    settings: BenchSettings
    name: str
    family: str
    size: str
    steps: int
    n_frames: int
    device: str
    providers: tuple[str, ...]
    latent_note: str
    changed_after_s: float
    idle: ComputeTimes
    lengths: dict[int, Spread]  # stretch in frames: what it takes
    stream: RunningTimes | None
    busy: ComputeTimes | None
    busy_stream: RunningTimes | None
    machine: dict[str, Any] = field(default_factory=dict)
    load: dict[str, list[float] | None] = field(default_factory=dict)
    resident_mb: dict[str, float | None] = field(default_factory=dict)

    @property
    def stretch_s(self) -> float:
        """Length of the stretches."""
        return self.n_frames * FRAME_S

    @property
    def rtf(self) -> float:
        """Median time of a stretch over its length."""
        return spread_ms(self.idle.stretch).p50 / 1e3 / self.stretch_s

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        values: dict[str, Any] = {
            "generator": self.name,
            "family": self.family,
            "size": self.size,
            "steps": self.steps,
            "stretch_s": round(self.stretch_s, 3),
            "device": self.device,
            "provider": self.providers[0],
            "providers": list(self.providers),
            "threads": self.settings.threads,
            "load": self.load,
            "machine": self.machine,
            "resident_mb": self.resident_mb,
            "first_sound_ms": spread_ms(self.idle.sink).to_json(),
            "rtf": round(self.rtf, 5),
            "stretch_ms": spread_ms(self.idle.stretch).to_json(),
            # Without what other programs took away: on a loaded machine the nearer figure.
            "stretch_processor_ms": spread_ms(self.idle.processor).to_json(),
            "stamps_ms": {name: spread.to_json() for name, spread in self.idle.stamps().items()},
            "latent_stamp": self.latent_note,
            "changed_after_ms": _milliseconds(self.changed_after_s),
            "jitter_p99_over_p50": _jitter(self.idle.stretch),
            "lengths": [
                {
                    "stretch_s": round(n_frames * FRAME_S, 3),
                    "stretch_ms": spread.to_json(),
                    "rtf": round(spread.p50 / 1e3 / (n_frames * FRAME_S), 5),
                }
                for n_frames, spread in self.lengths.items()
            ],
        }
        if self.stream is not None:
            values["stream"] = self._stream_json(self.stream)
        if self.busy is not None:
            values["busy"] = {
                "jobs": self.machine["cores"],
                "first_sound_ms": spread_ms(self.busy.sink).to_json(),
                "jitter_p99_over_p50": _jitter(self.busy.stretch),
            }
            if self.busy_stream is not None:
                values["busy"]["stream"] = self._stream_json(self.busy_stream)
        return values

    def _stream_json(self, run: RunningTimes) -> dict[str, Any]:
        third = len(run.sink) // 3
        drift = None
        if third:
            drift = 1e3 * float(np.median(run.sink[-third:]) - np.median(run.sink[:third]))
        stamps = {
            "stretch_start": run.started,
            "waveform": run.waveform,
            "first_sample": run.sink,
            "first_changed_sample": run.changed,
        }
        return {
            "ring_ms": _milliseconds(self.settings.ring_s),
            "seconds": round(run.seconds, 2),
            "changes": len(run.sink),
            "superseded": run.superseded,
            "stamps_ms": {
                name: spread_ms(values).to_json() for name, values in stamps.items() if values
            },
            "stretch_ms": spread_ms(run.stretch).to_json() if run.stretch else None,
            "jitter_p99_over_p50": _jitter(run.stretch),
            "underruns": run.underruns,
            "stalls": run.stalls,
            "drift_ms": None if drift is None else round(drift, 3),
        }


def run_bench(settings: BenchSettings, *, progress: Progress | None = None) -> BenchResult:
    """Measure a generator.

    Parameters
    ----------
    settings : BenchSettings
    progress : callable, optional
        Called with what is being done, how much of it is, and how much there is.

    Raises
    ------
    BundleError
        If there is no generator, or it is not what it says.
    DeviceError
        If the device cannot be had.
    SettingError
        If the generator does not make such stretches.
    """
    load: dict[str, list[float] | None] = {"before": load_average()}
    subject = open_subject(settings.folder, device=settings.device, threads=settings.threads)
    n_frames = stretch_frames(subject.spec, settings.stretch_s)
    rng = np.random.default_rng(settings.seed)
    conditions = random_conditions(subject.spec, _N_CONDITIONS, rng=rng)
    if progress is not None:
        progress("warming up", 0.0, 1.0)
    warm_up(subject, conditions, n_frames=n_frames, seconds=settings.warm_up_s)
    memory = {"before": resident_mb()}
    shows = changed_after_s(subject.generator, conditions, n_frames=n_frames, rng=rng)
    idle = time_changes(
        subject, conditions, n_frames=n_frames, n=settings.changes, rng=rng, progress=progress
    )
    lengths = _lengths(subject, conditions, settings, rng)
    stream = _stream(subject, conditions, settings, n_frames, rng, shows, progress)
    memory["after"] = resident_mb()
    load["after"] = load_average()
    machine = describe_machine()
    busy = busy_stream = None
    if settings.busy:
        with busy_cores(machine["cores"]):
            busy = time_changes(
                subject,
                conditions,
                n_frames=n_frames,
                n=settings.changes,
                rng=rng,
                latents=False,
                progress=progress,
            )
            busy_stream = _stream(subject, conditions, settings, n_frames, rng, shows, progress)
        load["after_busy"] = load_average()
    spec = subject.spec
    return BenchResult(
        settings=settings,
        name=subject.name,
        family=spec.family,
        size=spec.size,
        steps=spec.steps,
        n_frames=n_frames,
        device=subject.device,
        providers=subject.providers,
        latent_note=subject.latent_note,
        changed_after_s=shows,
        idle=idle,
        lengths=lengths,
        stream=stream,
        busy=busy,
        busy_stream=busy_stream,
        machine=machine,
        load=load,
        resident_mb=memory,
    )


def _lengths(
    subject: Subject,
    conditions: Sequence[GeneratorInput],
    settings: BenchSettings,
    rng: np.random.Generator,
) -> dict[int, Spread]:
    """Time every length of stretch, a fifth as often as the conditions change."""
    n = max(5, settings.changes // 5)
    return {
        n_frames: spread_ms(time_stretches(subject, conditions, n_frames=n_frames, n=n, rng=rng))
        for n_frames in subject.spec.stretches
    }


def _stream(
    subject: Subject,
    conditions: Sequence[GeneratorInput],
    settings: BenchSettings,
    n_frames: int,
    rng: np.random.Generator,
    shows_s: float,
    progress: Progress | None,
) -> RunningTimes | None:
    if settings.minutes == 0.0:
        return None
    return run_stream(
        subject,
        conditions,
        n_frames=n_frames,
        n=settings.changes if settings.minutes is None else None,
        seconds=None if settings.minutes is None else 60.0 * settings.minutes,
        rng=rng,
        ring_s=settings.ring_s,
        changed_after_s=shows_s if math.isfinite(shows_s) else 0.0,
        progress=progress,
    )


def _jitter(seconds: Sequence[float]) -> float | None:
    if not len(seconds):
        return None
    spread = spread_ms(seconds)
    return round(spread.p99 / spread.p50, 3)


def _milliseconds(seconds: float) -> float | None:
    return round(1e3 * seconds, 3) if math.isfinite(seconds) else None
