"""The three data sets of C2F-LDM as windows of BOLD beside stretches of sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.data.dataset import Dataset, Stimulus
from calibration.data.repetitions import epoch_samples
from calibration.data.samples import Samples
from calibration.embedders.base import Embedder
from calibration.lag import default_lags_s, sweep_lags
from calibration.preprocess import PreprocessSpec
from calibration.readers.ds003020 import TEST_STORIES
from calibration.reproduce.options import ReproduceOptions
from calibration.reproduce.record import Check
from calibration.run_features import RunFeatures, run_features
from calibration.stimulus_sound import stimulus_sound
from calibration.targets import EmbeddingTargets
from calibration.windows import WindowChoice, make_samples
from models.errors import FileError
from models.frontends.audioldm import AudioLdmMel
from models.frontends.audiomae import AudioMaeFbank
from models.mel import normalise_waveform
from models.spec import TrMeanSpec

__all__ = [
    "MEL_BANDS",
    "SETS",
    "DataKind",
    "StretchTargets",
    "Windows",
    "clip_mel",
    "count_checks",
    "mel_pairs",
    "mel_targets",
    "read_windows",
    "semantic_targets",
]

MEL_BANDS = 64
_RATE_HZ = 16_000
_PROMPTS = 10  # last clips of each test story that are prompts, not tested


@dataclass(frozen=True, slots=True)
class DataKind:
    """One of the paper's three data sets."""

    name: str  # as its tables call it
    formats: tuple[str, ...]
    clip_s: float
    lag_s: float | None  # as printed; None: not printed, or it was applied already
    told: str

    @property
    def n_frames(self) -> int:
        """Mel frames of a clip."""
        return round(self.clip_s * 100)


SETS = (
    DataKind("B2M", ("ds003720", "bids-func"), 1.5, None, "ds003720 (Brain2Music)"),
    DataKind("B2S", ("bdata",), 4.0, None, "Kamitani BData files (Brain2Sound)"),
    DataKind("B2Sp", ("ds003020",), 2.0, 4.0, "ds003020 stories as .hf5 (Brain2Speech)"),
)


def clip_mel(pcm: ArrayLike, n_frames: int) -> NDArray[np.float64]:
    """Return the vocoder's log mel of one clip, its first `n_frames` frames: (n_frames, 64).

    The clip by itself is brought to half of full scale, as AudioLDM's front-end does. A clip that
    ends a little early is silent there.
    """
    frames = AudioLdmMel()(pcm)[:n_frames]
    missing = n_frames - len(frames)
    if missing:
        frames = np.pad(frames, ((0, missing), (0, 0)), mode="edge")
    return np.asarray(frames, np.float64)


class StretchTargets:
    """What a function makes of the sound of each stretch; each stretch is heard once.

    Parameters
    ----------
    stimuli : mapping of str to Stimulus
    dim : int
    make : callable
        (pcm at 16 kHz) -> (dim,)
    """

    def __init__(
        self,
        stimuli: dict[str, Stimulus],
        *,
        dim: int,
        make: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    ) -> None:
        self._stimuli, self.dim, self._make = stimuli, dim, make
        self._known: dict[tuple[str, int, int], NDArray[np.float32]] = {}
        self._sound: tuple[str, NDArray[np.float32]] = ("", np.zeros(0, np.float32))

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the targets (n, dim) of stretches, s from the start of each stimulus; NaN: all."""
        out = np.empty((len(stimuli), self.dim))
        times = np.stack([np.asarray(starts_s), np.asarray(stops_s)], axis=1).astype(np.float64)
        edges = np.where(np.isnan(times), -1, np.rint(times * _RATE_HZ)).astype(np.int64)
        for row, name, (first, last) in zip(out, stimuli, edges.tolist(), strict=True):
            key = (name, first, last)
            if key not in self._known:
                self._known[key] = self._make(self._cut(*key)).astype(np.float32)
            row[:] = self._known[key]
        return out

    def one(self, stimulus: Stimulus, start_s: float, stop_s: float) -> NDArray[np.float64]:
        """Return the target of one stretch, as `epoch_samples` asks for it."""
        return np.asarray(self.targets([stimulus.id], [start_s], [stop_s])[0])

    def _cut(self, name: str, first: int, last: int) -> NDArray[np.float32]:
        if self._sound[0] != name:
            if name not in self._stimuli or self._stimuli[name].path is None:
                raise FileError(f"There is no sound for {name!r}. Give the sounds with --stimuli.")
            self._sound = (name, stimulus_sound(self._stimuli[name], sample_rate_hz=_RATE_HZ))
        sound = self._sound[1]
        cut = sound if first < 0 else sound[first:last]
        if not len(cut):
            raise FileError(
                f"A stretch of {name!r} begins {first / _RATE_HZ:g} s into it, but its sound has "
                f"{len(sound) / _RATE_HZ:g} s. The recordings and the sounds do not fit."
            )
        return cut


def mel_targets(dataset: Dataset, kind: DataKind) -> StretchTargets:
    """Return the vocoder's mel of each clip as targets."""
    return StretchTargets(
        dict(dataset.stimuli),
        dim=kind.n_frames * MEL_BANDS,
        make=lambda pcm: clip_mel(pcm, kind.n_frames).ravel(),
    )


def semantic_targets(dataset: Dataset, embedder: Embedder) -> StretchTargets:
    """Return the embedding of each clip, tiled to 10 s as the paper does."""

    def make(pcm: NDArray[np.float32]) -> NDArray[np.float64]:
        length = 10 * _RATE_HZ
        tiled = np.tile(pcm, -(-length // len(pcm)))[:length] if len(pcm) < length else pcm
        return embedder.embed(tiled, _RATE_HZ).astype(np.float64)

    return StretchTargets(dict(dataset.stimuli), dim=embedder.dim, make=make)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """One person's windows; targets are put beside them as they are needed."""

    kind: DataKind
    dataset: Dataset
    person: str
    lag_s: float | None
    features: tuple[RunFeatures, ...]  # empty where only cut-out samples were published

    def samples(self, targets: StretchTargets) -> tuple[Samples, Samples]:
        """Return training and test windows with these targets; features z-scored by training."""
        if not self.features:
            (epochs,) = self.dataset.epochs
            train, test = (
                epoch_samples(epochs, targets.one, stimuli=self.dataset.stimuli, part=part)
                for part in ("train", "test")
            )
            train, test = self._whole(train), self._whole(test)
        else:
            assert self.lag_s is not None
            parts = {
                part: [run for run in self.features if run.run.part == part]
                for part in ("train", "test")
            }
            choice = WindowChoice(choose="all", stretch_s=self.kind.clip_s, align="start")
            train, test = (
                make_samples(parts[part], lag_s=self.lag_s, targets=targets, choice=choice)
                for part in ("train", "test")
            )
            if self.kind.name == "B2Sp":
                test = _without_prompts(test)
        return _zscored(train.separate(), test)

    def _whole(self, samples: Samples) -> Samples:
        """Say of published samples that each answers to the whole of its sound."""
        start = np.zeros(len(samples))
        return replace(samples, start_s=start, stop_s=start + self.kind.clip_s)


def read_windows(
    dataset: Dataset, kind: DataKind, *, lag_s: float | None, options: ReproduceOptions
) -> Windows:
    """Return one person's windows at a lag; None: as printed, or fitted on training runs."""
    person = dataset.participants[0]
    if not dataset.runs:
        return Windows(kind, dataset, person, None, ())
    # The stories are stored detrended and z-scored.
    preprocess = PreprocessSpec() if kind.name == "B2M" else None
    width = min(kind.clip_s, dataset.runs[0].tr_s)
    features = run_features(
        dataset.of(person), features=TrMeanSpec(window_s=width), preprocess=preprocess
    )
    chosen = kind.lag_s if lag_s is None else lag_s
    if chosen is None:
        from calibration.embedders import make_embedder

        train = [run for run in features if run.run.part == "train"]
        chosen = sweep_lags(
            train,
            targets=EmbeddingTargets(dataset.stimuli, make_embedder("mel-statistics")),
            lags_s=default_lags_s(train[0].run.tr_s),
            choice=WindowChoice(choose="all", stretch_s=kind.clip_s, align="start"),
            n_folds=options.n_folds,
        ).lag_s
    return Windows(kind, dataset, person, chosen, features)


def count_checks(windows: Windows) -> list[Check]:
    """Compare the rows with the published numbers; those of ds003720 are checked elsewhere."""
    person = windows.person
    if windows.kind.name == "B2Sp":
        rows = {"train": 0, "test": 0}
        seen: set[str] = set()
        for run in windows.features:
            story = run.run.run.partition(".")[0]
            if story not in seen:
                rows[run.run.part or "train"] += len(run.run.signal)
                seen.add(story)
        rows["test"] -= _PROMPTS * len(seen & set(TEST_STORIES))
        return [
            Check(f"{person}: {part} rows", f"{n:,}", f"{rows[part]:,}", rows[part] == n)
            for part, n in (("train", 9_137), ("test", 595))
        ]
    if windows.kind.name == "B2S":
        (epochs,) = windows.dataset.epochs
        train = int(np.sum(epochs.part == "train"))
        tests = len(set(epochs.stimulus[epochs.part == "test"].tolist()))
        space = windows.dataset.space_of(person)
        area = len(space.rois["AC"]) if space is not None and "AC" in space.rois else None
        expected = "13,872" if person == "S1" else "13,944"
        known = {"S1": 6_662, "S2": 6_624, "S3": 6_713, "S4": 6_157, "S5": 7_143}.get(person)
        checks = [
            Check(f"{person}: training samples", expected, f"{train:,}", f"{train:,}" == expected),
            Check(f"{person}: test windows", "150", str(tests), tests == 150),
        ]
        if known is not None:
            checks.append(Check(f"{person}: voxels in AC", str(known), str(area), known == area))
        return checks
    return []


def _zscored(train: Samples, test: Samples) -> tuple[Samples, Samples]:
    """Bring features to zero mean and unit variance (ddof 1) by the training part."""
    x = train.x[:, 0].astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0, ddof=1)
    std = np.where(std > 0, std, 1.0)

    def scaled(samples: Samples) -> Samples:
        return replace(samples, x=((samples.x - mean) / std).astype(np.float32))

    return scaled(train), scaled(test)


def _without_prompts(test: Samples) -> Samples:
    """Leave out the last ten clips of each test story, which the paper uses as prompts."""
    keep = np.ones(len(test), bool)
    for story in np.unique(test.clip):
        rows = np.flatnonzero(test.clip == story)
        keep[rows[np.argsort(test.start_s[rows], kind="stable")[-_PROMPTS:]]] = False
    return test.take(keep)


def mel_pairs(
    dataset: Dataset, names: Sequence[str], *, seconds: float = 4.0, most: int = 200
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return AudioMAE's mel and the vocoder's of the same frames: [(n, 128), (n, 64)] a sound.

    Parameters
    ----------
    dataset : Dataset
    names : sequence of str
        Stimuli; of more than `most`, evenly spaced ones.
    seconds : float
        Of the start of each.
    most : int
    """
    pairs = []
    few = [names[k] for k in np.unique(np.linspace(0, len(names) - 1, most).astype(np.int64))]
    for name in few:
        pcm = stimulus_sound(dataset.stimuli[name], sample_rate_hz=_RATE_HZ)
        pcm = normalise_waveform(pcm[: round(seconds * _RATE_HZ)])
        theirs = AudioMaeFbank(n_frames=None)(pcm)
        # Kaldi's frame k is centred on sample 160 k + 200, the vocoder's m on 160 m.
        ours = AudioLdmMel()(pcm)[1 : len(theirs) + 1]
        pairs.append((theirs[: len(ours)].astype(np.float64), ours.astype(np.float64)))
    return pairs
