"""What a calibration does, chosen from the data where the settings leave it open, and said so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from calibration.config import CalibrationSettings, DecoderSettings, EvaluationSettings
from calibration.data.dataset import Dataset, Run
from calibration.windows import WindowChoice
from models.errors import FileError, SettingError
from models.spec import FeatureSpec, PsdSpec, SampleSpec, StandardiseSpec, TrMeanSpec, spec_to_json

__all__ = ["Plan", "make_plan"]

_EVOKED_S = 0.8  # from the onset: the late potentials are over by then
_FOLLOWED_S = 0.4  # of EEG behind each mel frame
_MEL_FRAMES_HZ = 100.0
_SHORT_S = 0.75  # sounds below this are answered by an evoked response, not by a spectrum
_WIDE = 2_000  # from so many features on, each target gets its own few


@dataclass(frozen=True, slots=True)
class Plan:
    """Every choice of a calibration; its JSON is part of the key of each kept step."""

    participant: str
    features: FeatureSpec
    standardise: StandardiseSpec
    choice: WindowChoice
    lags_s: tuple[float, ...]  # one: fixed
    target: str  # "class", "mel" or an embedder
    stretch: Literal["clip", "window"]
    closed: bool  # the same few sounds in training and test: classes are scored
    decoder: DecoderSettings
    evaluation: EvaluationSettings
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without the notes."""
        values = spec_to_json(replace(self, notes=()))
        del values["notes"]
        return values

    @property
    def shortest(self) -> float:
        """Share of a window that counts at a run's end, where a scanner stops with the sound."""
        return 0.5 if isinstance(self.features, TrMeanSpec) else 1.0

    @property
    def split(self) -> str:
        """What is held out, in words."""
        if self.evaluation.test == "dataset":
            return "the data set's own test runs"
        if self.evaluation.family in ("segment", "random-chunk"):
            return f"{self.evaluation.family} (leaky)"
        name = {"label": "class"}.get(self.evaluation.family, self.evaluation.family)
        return f"leave one {name} out" if self._each else f"{name}s, in folds"

    @property
    def _each(self) -> bool:
        return self.evaluation.n_folds is None and self.evaluation.family != "clip"


def make_plan(dataset: Dataset, participant: str, settings: CalibrationSettings) -> Plan:
    """Choose what the settings leave open.

    Parameters
    ----------
    dataset : Dataset
    participant : str
    settings : CalibrationSettings

    Raises
    ------
    FileError
        If the recordings have no events.
    SettingError
        If a choice does not fit the recordings.
    """
    runs = dataset.of(participant)
    events = [event for run in runs for event in run.events]
    if not events:
        raise FileError(
            f"The recordings of {participant!r} say nothing about what was presented: no events in "
            f"{len(runs)} runs. Give recordings with events or markers."
        )
    notes: list[str] = []
    clip_s = float(np.median([event.duration_s for event in events]))
    target = settings.generator.target(settings.target.kind) or _target(dataset, runs, notes)
    evaluation = settings.evaluation
    own_test = {"train", "test"} <= {run.part for run in runs}
    if evaluation.test == "dataset" and not own_test:
        raise SettingError(
            "evaluation.test is 'dataset', but the data set does not say which runs are for the "
            "test. Take 'folds'."
        )
    leaky = evaluation.family in ("segment", "random-chunk")
    if leaky and evaluation.test == "dataset":
        raise SettingError(
            f"The split {evaluation.family!r} divides all recordings anew, and evaluation.test is "
            "'dataset'. Choose one of the two."
        )
    test: Literal["dataset", "folds"] = (
        "dataset" if own_test and evaluation.test != "folds" and not leaky else "folds"
    )
    if test == "dataset":
        notes += _of_own_test(runs, evaluation.family)
    closed = target == "class" or (target != "mel" and test == "folds" and _is_closed(runs))
    family = evaluation.family
    if family == "auto":
        family = _family(runs, closed=closed)
        if test == "folds" and not closed and family != "clip" and _recurs(runs, family):
            family = "clip"  # a run that is held out holds clips that others hold too
        if test == "folds":
            notes.append(f"Held out by {family}: {_WHY[family]}")
    features = settings.features.chosen or _features(dataset, clip_s, target)
    standardise = settings.standardise or _standardise(dataset, features)
    if standardise.mode == "offline":
        notes.append(
            "Standardised with hindsight (offline): the scores are the papers' kind, and the "
            "bundle cannot run live."
        )
    lags_s = _lags(dataset, settings, runs[0], target)
    tolerance_s = None
    if isinstance(features, SampleSpec) and features.past_s > clip_s and target != "mel":
        # The answer outlasts the sound: one window for each sound, from its onset on.
        tolerance_s = (features.past_s - clip_s) / 2.0 + 1.0 / features.rate_hz
        if settings.lag.fixed_s is None:
            lags_s = (round(tolerance_s - 1.0 / features.rate_hz, 6),)
    choice = WindowChoice(
        tolerance_s=tolerance_s,
        # An evoked response is locked to the onset: windows at other delays would blur it.
        choose=_choose(settings.windows, features, target),
        repeat="never" if closed else "stimulus",
    )
    return Plan(
        participant=participant,
        features=features,
        standardise=standardise,
        choice=choice,
        lags_s=lags_s,
        target=target,
        stretch=settings.target.stretch,
        closed=closed,
        decoder=_decoder(settings.decoder, runs[0]),
        evaluation=replace(evaluation, test=test, family=family),
        notes=tuple(notes),
    )


_WHY = {
    "session": "no window of a session that is scored was trained on.",
    "run": "no window of a run that is scored was trained on.",
    "clip": "no window of a clip that is scored was trained on; runs are on both sides.",
}


def _choose(wanted: str, features: FeatureSpec, target: str) -> Literal["all", "clip"]:
    if wanted == "auto":
        return "clip" if isinstance(features, SampleSpec) and target != "mel" else "all"
    return "clip" if wanted == "clip" else "all"


def _target(dataset: Dataset, runs: tuple[Run, ...], notes: list[str]) -> str:
    """Decode what was heard where the sounds are at hand, else which class it was."""
    names = {event.stimulus for run in runs for event in run.events}
    known = [name for name in names if name in dataset.stimuli]
    with_sound = [name for name in known if dataset.stimuli[name].path is not None]
    if len(with_sound) == len(names):
        return "mel-statistics"
    notes.append(
        f"Sounds of {len(names) - len(with_sound)} of the {len(names)} stimuli are not at hand: "
        "classes are decoded. Name the folder of the sounds (data.stimuli) to decode their "
        "embedding."
    )
    return "class"


def _is_closed(runs: tuple[Run, ...]) -> bool:
    heard: dict[str, set[str]] = {}
    for run in runs:
        for event in run.events:
            heard.setdefault(event.stimulus, set()).add(run.key)
    often = [len(where) > 1 or len(runs) == 1 for where in heard.values()]
    again = sum(len(run.events) for run in runs) >= 2 * len(heard)
    return all(often) and again


def _family(runs: tuple[Run, ...], *, closed: bool) -> Literal["session", "run", "clip"]:
    if len({run.session for run in runs}) > 1:
        return "session"
    if len(runs) > 1:
        return "run"
    if closed:
        raise SettingError(
            "One run alone, in which the same sounds come again and again, cannot be divided into "
            "training and test: neighbouring windows would stand on both sides. Record a second "
            "run, or ask for the split 'segment' by name, which is leaky."
        )
    return "clip"


def _recurs(runs: tuple[Run, ...], family: str) -> bool:
    """Return whether most clips are heard in more than one run, or session."""
    where: dict[str, set[str]] = {}
    for run in runs:
        for event in run.events:
            where.setdefault(event.stimulus, set()).add(
                run.session if family == "session" else run.key
            )
    return sum(len(names) > 1 for names in where.values()) * 2 > len(where)


def _of_own_test(runs: tuple[Run, ...], family: str) -> list[str]:
    """Return what has to be said of a data set's own division."""
    notes = []
    if family != "auto":
        notes.append(
            f"evaluation.family = {family!r} was not needed: the data set's own test runs are held "
            "out. For folds, evaluation.test = 'folds'."
        )
    heard = {
        part: {event.stimulus for run in runs if run.part == part for event in run.events}
        for part in ("train", "test")
    }
    both = heard["train"] & heard["test"]
    if both:
        notes.append(
            f"{len(both)} of the {len(heard['test'])} clips of the test were heard in training as "
            "well: their score says that they are told apart, not that unknown sounds would be."
        )
    return notes


def _features(dataset: Dataset, clip_s: float, target: str) -> FeatureSpec:
    if dataset.modality == "bold":
        return TrMeanSpec(window_s=min(7.5, max(clip_s / 2.0, 0.1)))
    if target == "mel":  # the envelope is followed sample by sample, not by a spectrum
        rate_hz = _evoked_rate(dataset)
        return SampleSpec(
            past_s=round(0.4 * rate_hz) / rate_hz, rate_hz=rate_hz, hop_s=_hop_s(rate_hz)
        )
    if clip_s < _SHORT_S:
        rate_hz = _evoked_rate(dataset)
        past = round(_EVOKED_S * rate_hz)
        return SampleSpec(past_s=past / rate_hz, rate_hz=rate_hz, hop_s=1.0 / rate_hz)
    window_s = min(2.0, round(clip_s * 2.0 / 3.0, 2))  # onsets are free: room to lie in the sound
    return PsdSpec(
        method="welch", window_s=window_s, segment_s=min(1.0, window_s), hop_s=window_s / 4.0
    )


def _hop_s(rate_hz: float) -> float:
    """Return the shortest hop that is a whole number of samples and of mel frames of 10 ms."""
    for n in range(1, 101):
        frames = n / rate_hz * _MEL_FRAMES_HZ
        if abs(frames - round(frames)) < 1e-9:
            return n / rate_hz
    raise SettingError(
        f"Mel frames come 100 times a second, which does not fit a feature rate of {rate_hz:g} Hz. "
        "Give [features.samples] with a rate_hz such as 50."
    )


def _evoked_rate(dataset: Dataset) -> float:
    """Return the rate nearest to 50 Hz that the stream's rate is a whole multiple of."""
    sfreq_hz = dataset.runs[0].sfreq_hz
    return float(sfreq_hz / max(1, round(sfreq_hz / 50.0)))


def _standardise(dataset: Dataset, features: FeatureSpec) -> StandardiseSpec:
    if dataset.modality == "bold":
        # A scanner's baseline is another in each run and drifts over minutes.
        return StandardiseSpec(prior_n=5.0, forget_n=40.0, learn="mean")
    hop_s = getattr(features, "hop_s", 0.25)
    # A cap sits differently each day: half a minute weighs as much as calibration did.
    return StandardiseSpec(prior_n=max(8.0, 30.0 / hop_s))


def _lags(
    dataset: Dataset, settings: CalibrationSettings, run: Run, target: str
) -> tuple[float, ...]:
    lag = settings.lag
    if lag.fixed_s is not None:
        return (lag.fixed_s,)
    if dataset.modality == "bold":
        low, high, step = -3 * run.tr_s, 8 * run.tr_s, run.tr_s
    elif target == "mel":
        low, high, step = -0.1, 0.4, 0.1
    else:
        low, high, step = -0.2, 0.4, 0.1
    low = low if lag.from_s is None else lag.from_s
    high = high if lag.to_s is None else lag.to_s
    step = step if lag.step_s is None else lag.step_s
    if not (high >= low and step > 0 and (high - low) / step <= 200):
        raise SettingError(
            f"Lags go from low to high in at most 200 steps, got {low:g} to {high:g} s in steps of "
            f"{step:g} s. Correct the table [lag]."
        )
    n = int(np.floor((high - low) / step + 1e-6)) + 1
    return tuple(round(float(low + k * step), 6) for k in range(n))


def _decoder(decoder: DecoderSettings, run: Run) -> DecoderSettings:
    if decoder.kind != "auto":
        return decoder
    wide = run.signal.shape[1] > _WIDE
    return replace(decoder, kind="selected" if wide else "ridge")
