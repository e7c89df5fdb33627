"""When which clip is heard: the published order of ds003720, a short one, and songs heard once.

ds003720 (Nakai, Koide-Majima & Nishimoto 2021) is 12 training and 6 test runs of 41 clips of 15 s
without a pause. The first row is a dummy: in a training run it repeats the last clip of the run
before (of the first: of the last), in a test run the last of its own. Forty training clips come
once; a test run is ten clips, four times in one fixed cycle. The order of classes below is that
data set's; each genre stands for a class of procedural sounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calibration.simulate.settings import SimulationSettings
from calibration.stimuli import LABELS

__all__ = [
    "DS003720_GENRES",
    "DS003720_TEST",
    "DS003720_TRAINING",
    "GENRE_CLASSES",
    "Clip",
    "PlannedRun",
    "Presentation",
    "plan_runs",
]

DS003720_GENRES = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)  # fmt: skip
# Genre (index above) of rows 1 to 40 of each training run, and of the cycle of each test run.
DS003720_TRAINING = (
    "0475132689059182476309134876525837901246",
    "9635284710943567802194627851305803496217",
    "6759238104716829305460947182354517096328",
    "3495286710548269130702518476937048293156",
    "4182563097574608129346319257802416975308",
    "2194835607951462380718560947321276098435",
    "7521438690649273180578159403628539601472",
    "8627943051312095748650846372195392167840",
    "5028439167093675841243580972160592836741",
    "6925184307234095187679820613548230976541",
    "0193825476172346809502659473812165049738",
    "1869473520217340986579068253419781502463",
)
DS003720_TEST = (
    "9203681457",
    "8947250136",
    "4092731685",
    "6298043175",
    "7216349058",
    "0713654298",
)
# What is heard where that data set has a genre.
GENRE_CLASSES = (
    "piano", "flute", "chord", "drums", "speech", "clicks", "engine", "tone", "birdsong", "rain",
)  # fmt: skip
_REST_S = 9.0  # silence at the end of a run of the short timetable: the last response is recorded


@dataclass(frozen=True, slots=True)
class Clip:
    """One sound of the simulation."""

    label: str  # class of procedural sounds
    track: int  # number within its class, from 0
    seed: int  # of the sound
    duration_s: float

    @property
    def id(self) -> str:
        """Its name, as the files of that data set's stimuli are named."""
        return f"{self.label}.{self.track:05d}"


@dataclass(frozen=True, slots=True)
class Presentation:
    """A clip that is heard."""

    onset_s: float
    clip: Clip
    dummy: bool = False  # it is there, but it is not to be used


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """What happens in a run; the same for all people."""

    session: str  # "" where there is only one
    task: str
    number: int  # within the task (and session), from 1
    part: Literal["train", "test", ""]
    presentations: tuple[Presentation, ...]
    duration_s: float

    @property
    def run(self) -> str:
        """Its name within the session."""
        return f"task-{self.task}_run-{self.number:02d}"

    def n_volumes(self, tr_s: float) -> int:
        """Return how many volumes are recorded."""
        return math.ceil(self.duration_s / tr_s - 1e-6)

    @property
    def clips(self) -> tuple[Clip, ...]:
        """Clips in order of their first presentation."""
        return tuple(dict.fromkeys(item.clip for item in self.presentations))


class _Tracks:
    """Deals out clips, each once."""

    def __init__(self, settings: SimulationSettings) -> None:
        self._settings = settings
        self._count: dict[str, int] = {}

    def next(self, label: str) -> Clip:
        track = self._count.get(label, 0)
        self._count[label] = track + 1
        # Sounds of one seed share nothing with those of another: 100,000 tracks a class.
        seed = self._settings.seed * 100_000 + track
        return Clip(label, track, seed, self._settings.clip_duration_s)


def plan_runs(settings: SimulationSettings) -> tuple[PlannedRun, ...]:
    """Return the runs of a person, in order.

    Training runs beyond the twelve (six test runs) of ds003720 take its order again, with new
    clips; with fewer, the first ones are taken.
    """
    tracks = _Tracks(settings)
    n_train, n_test = settings.run_counts
    if settings.schedule == "ds003720":
        train = _with_dummies(
            [
                [tracks.next(GENRE_CLASSES[int(c)]) for c in DS003720_TRAINING[k % 12]]
                for k in range(n_train)
            ]
        )
        cycles = [
            [tracks.next(GENRE_CLASSES[int(c)]) for c in DS003720_TEST[k % 6]]
            for k in range(n_test)
        ]
        test = [[cycle[-1], *cycle * 4] for cycle in cycles]
        rest_s, dummy = 0.0, True
    elif settings.schedule == "short":
        rng = np.random.default_rng([settings.seed, 21])
        order = _Order(rng)
        train = [
            [tracks.next(order.next()) for _ in range(settings.clips_per_run)]
            for _ in range(n_train)
        ]
        order = _Order(rng)
        test = [
            [tracks.next(order.next()) for _ in range(settings.n_test_clips)] * settings.repetitions
            for _ in range(n_test)
        ]
        rest_s, dummy = _REST_S, False
    else:
        songs = [tracks.next(LABELS[k % len(LABELS)]) for k in range(n_train + n_test)]
        train, test = [[clip] for clip in songs[:n_train]], [[clip] for clip in songs[n_train:]]
        rest_s, dummy = 0.0, False
    return _arrange(settings, train, test, rest_s=rest_s, dummy=dummy)


def _with_dummies(runs: list[list[Clip]]) -> list[list[Clip]]:
    return [[runs[k - 1][-1], *clips] for k, clips in enumerate(runs)]


class _Order:
    """Each class once in a random order, then again; none follows itself."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._left: list[str] = []
        self._last = ""

    def next(self) -> str:
        if not self._left:
            self._left = [str(label) for label in self._rng.permutation(list(GENRE_CLASSES))]
            if self._left[0] == self._last:
                self._left.append(self._left.pop(0))
        self._last = self._left.pop(0)
        return self._last


def _arrange(
    settings: SimulationSettings,
    train: list[list[Clip]],
    test: list[list[Clip]],
    *,
    rest_s: float,
    dummy: bool,
) -> tuple[PlannedRun, ...]:
    clip_s = settings.clip_duration_s
    names = ("Song", "Song") if settings.schedule == "songs" else ("Training", "Test")
    planned: list[PlannedRun] = []
    total = len(train) + len(test)
    counts: dict[tuple[str, str], int] = {}
    parts: list[tuple[Literal["train", "test", ""], str, list[Clip]]] = []
    for part, task, runs in (("train", names[0], train), ("test", names[1], test)):
        kept: Literal["train", "test", ""] = "train" if part == "train" else "test"
        if settings.schedule == "songs" and not test:
            kept = ""
        parts += [(kept, task, clips) for clips in runs]
    for k, (kept, task, clips) in enumerate(parts):
        session = ""
        if settings.n_sessions > 1:
            session = f"ses-{k * settings.n_sessions // total + 1:02d}"
        counts[session, task] = counts.get((session, task), 0) + 1
        presentations = tuple(
            Presentation(place * clip_s, clip, dummy and place == 0)
            for place, clip in enumerate(clips)
        )
        length_s = len(clips) * clip_s + rest_s
        planned.append(
            PlannedRun(session, task, counts[session, task], kept, presentations, length_s)
        )
    return tuple(planned)
