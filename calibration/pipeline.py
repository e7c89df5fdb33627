"""From a participant's recordings to a bundle and an honest report, in steps that are kept.

    read -> features -> for each fold: fit on the rest, decode it -> score -> fit for the bundle

A rerun goes on where the last one stopped; what was changed is calculated anew.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.bundle_out import check_out, write_bundle
from calibration.config import CalibrationSettings, settings_to_json
from calibration.data.dataset import Dataset, Event, Run
from calibration.data.samples import Samples
from calibration.decoders import alpha_curve
from calibration.families import compare_families
from calibration.kept_fit import fit_from_step, fit_to_step
from calibration.methods.others import OtherPeople, other_people
from calibration.outer import Decoded, Fit, Fold, decode, decode_leaky, fit_part, join, make_parts
from calibration.plan import Plan, make_plan
from calibration.reading import read_participant
from calibration.recalibrate import keep_state
from calibration.report.result import Family, Result
from calibration.roi_ensemble import feature_rois
from calibration.run_features import RunFeatures, run_features
from calibration.scoring import score_decoded
from calibration.steps import StepResult, Steps, array_digest
from calibration.summary import make_result, peak_mb
from calibration.target_choice import choose_targets, target_digest
from calibration.targets import TargetSource
from models.errors import SettingError

__all__ = ["CalibrationJob", "calibrate", "calibrate_dataset"]

Progress = Callable[[str, float, float], None]  # what, done, total


@dataclass(frozen=True, slots=True)
class CalibrationJob:
    """One calibration: all that its result depends on, so that it can be done anywhere."""

    dataset: Path
    participant: str | None
    out: Path
    settings: CalibrationSettings


def calibrate(job: CalibrationJob, *, progress: Progress | None = None) -> Result:
    """Read, fit, score, and write the bundle with its report.

    Parameters
    ----------
    job : CalibrationJob
    progress : callable, optional
        Called with what is being done, how much of it is done, and how much there is.

    Raises
    ------
    HearbackError
        If the recordings cannot be read, say nothing to fit, or the bundle cannot be written.
    """
    tell = progress or (lambda _what, _done, _total: None)
    tell("reading", 0, 1)

    def read(participant: str | None) -> Dataset:
        return read_participant(
            job.dataset,
            participant,
            job.settings.data,
            progress=lambda done, total: tell("reading", done, total),
        )

    dataset = read(job.participant)
    me = dataset.participants[0]
    others = [read(name) for name in job.settings.people.align if name not in (job.participant, me)]
    return calibrate_dataset(
        dataset, me, job.out, settings=job.settings, others=others, progress=tell
    )


def calibrate_dataset(
    dataset: Dataset,
    participant: str,
    out: Path,
    *,
    settings: CalibrationSettings,
    others: Sequence[Dataset] = (),
    progress: Progress | None = None,
) -> Result:
    """Fit and score one participant of a data set that was read.

    Parameters
    ----------
    dataset : Dataset
    participant : str
    out : Path
        Folder of the bundle; what is kept for a rerun lies beside it, in `NAME.steps`.
    settings : CalibrationSettings
    others : sequence of Dataset
        Other people, one each, aligned to this one inside every training part.
    progress : callable, optional
    """
    tell = progress or (lambda _what, _done, _total: None)
    began = time.perf_counter()
    out = check_out(out, participant)
    if dataset.epochs and not dataset.runs:
        raise SettingError(
            f"{dataset.path.name} holds samples that were cut out and averaged already; a live "
            "bundle needs runs. `hearback reproduce` scores such data."
        )
    plan = make_plan(dataset, participant, settings)
    runs = dataset.of(participant)
    steps = Steps(out.with_name(out.name + ".steps"))
    tell("features", 0, 1)
    features = run_features(runs, features=plan.features, shortest=plan.shortest)
    people = None
    if others:
        people = other_people(
            others, runs, plan, how=settings.people.pooling, n_dims=settings.people.n_dims
        )
        names = ", ".join(people.names)
        plan = replace(
            plan,
            notes=(*plan.notes, f"{names} were aligned to {participant} inside the training part."),
        )
    targets = choose_targets(
        _with_stimuli(dataset, others),
        plan,
        download=settings.target.download,
        cache=None if steps.folder is None else steps.folder / "embeddings",
    )
    rois = {}
    space = dataset.space_of(participant)
    if space is not None and space.rois:
        rois = feature_rois(
            space.rois,
            n_voxels=runs[0].signal.shape[1],
            n_features=features[0].n_features,
        )
    key = _digest(
        runs,
        plan,
        settings,
        people=people,
        targets=target_digest(_with_stimuli(dataset, others), targets, runs),
        rois=rois if plan.decoder.kind == "roi-ensemble" else {},
    )
    work = _Work(plan, features, targets, rois, steps, tell, key, people, settings.updatable)
    decoded, train = work.decode_all()
    fit = work.fit_final()
    shuffled = work.shuffled()
    tell("scoring", 0, 1)
    scored = score_decoded(
        decoded,
        plan,
        dataset=dataset,
        train=train,
        targets=targets,
        shuffled=shuffled,
        decoder_digest=work.key,
        record=out.with_name(out.name + ".openings.json"),
    )
    families = work.families(fit) if plan.evaluation.families else ()
    facts = {
        "participant": participant,
        "runs": len(runs),
        "windows_trained": len(fit.train),
        "clips_trained": len(np.unique(fit.train.clip)),
        "features": len(fit.mean),
        "dimensions": fit.train.y.shape[1],
        "test_openings": scored.test_openings,
        "lag_s": fit.lag_s,
        "decoder": plan.decoder.kind,
        "held_out_correlation": fit.held_out_r,
        "fit_s": round(work.seconds[_FINAL], 3),
        "seconds": round(time.perf_counter() - began, 2),
        "peak_mb": peak_mb(),
        "steps_found": list(steps.found),
    }
    result = make_result(
        dataset=dataset,
        plan=plan,
        fit=fit,
        scored=scored,
        alpha=alpha_curve(fit.decoder),
        families=families,
        facts=facts,
        settings=settings_to_json(settings),
    )
    if settings.updatable and steps.folder is not None:
        tell("keeping what an update needs", 0, 1)
        keep_state(steps.folder, fit, plan)
    tell("writing the bundle", 0, 1)
    write_bundle(out, dataset=dataset, plan=plan, fit=fit, targets=targets, result=result,
                 settings=settings)  # fmt: skip
    tell("done", 1, 1)
    return result


@dataclass(slots=True, eq=False)
class _Work:
    """The costly parts, each one a kept step."""

    plan: Plan
    features: tuple[RunFeatures, ...]
    targets: TargetSource
    rois: dict[str, NDArray[np.intp]]
    steps: Steps
    tell: Progress
    key: str
    others: OtherPeople | None = None
    updatable: bool = False  # the bundle's fit keeps its features
    final: Fit | None = None
    lags_s: dict[int, float] = field(default_factory=dict)  # of each fold
    seconds: dict[str, float] = field(default_factory=dict)  # that each fit took

    def decode_all(self) -> tuple[Decoded, Samples | None]:
        """Decode everything that is held out, fold by fold.

        Returns
        -------
        decoded : Decoded
        train : Samples or None
            What the one decoder was fitted on; None where each fold has its own.
        """
        if self.plan.evaluation.family in ("segment", "random-chunk"):
            decoded, _ = decode_leaky(self.features, self.targets, self.plan, rois=self.rois)
            return decoded, None
        folds = make_parts(self.features, self.plan)
        parts: list[Decoded] = []
        for number, fold in enumerate(folds):
            self.tell(f"fold {fold.name}", number, len(folds))
            fit = self._fold(fold, number)
            self.lags_s[number] = fit.lag_s
            parts.append(decode(fit, fold.test, self.targets, self.plan))
        return join(parts), self.final.train if self.final is not None else None

    def _fold(self, fold: Fold, number: int) -> Fit:
        if self.plan.evaluation.test == "dataset":
            return self.fit_final()  # the decoder that is scored is the one in the bundle
        return self._kept_fit(f"fold{number}", fold.train, {"fold": fold.name}, held_out=fold.test)

    def fit_final(self) -> Fit:
        """Fit for the bundle: on the training runs, or on everything where folds were scored."""
        if self.final is None:
            self.tell("fitting for the bundle", 0, 1)
            self.final = self._kept_fit(_FINAL, self._training(), {})
        return self.final

    def shuffled(self) -> list[NDArray[np.float64]]:
        """Decode with decoders of brains that heard something else."""
        if self.plan.evaluation.family in ("segment", "random-chunk"):
            return []
        out = []
        folds = make_parts(self.features, self.plan)
        for k in range(self.plan.evaluation.n_shuffled):
            self.tell("shuffled brains", k, self.plan.evaluation.n_shuffled)
            parts = []
            for number, fold in enumerate(folds):
                seed = [self.plan.evaluation.seed, k, number]
                fit = self._kept_fit(
                    f"shuffled{k}-{number}",
                    fold.train,
                    {"fold": fold.name, "seed": seed},
                    held_out=fold.test,
                    lag_s=self.lags_s[number],
                    seed=seed,
                )
                parts.append(decode(fit, fold.test, self.targets, self.plan))
            out.append(join(parts).raw)
        return out

    def families(self, fit: Fit) -> tuple[Family, ...]:
        """Compare ways to divide the training part, to see what rests on the recording itself."""
        self.tell("ways to hold out", 0, 1)
        return compare_families(self._training(), self.targets, self.plan, fit)

    def _training(self) -> tuple[RunFeatures, ...]:
        if self.plan.evaluation.test == "dataset":
            return tuple(run for run in self.features if run.run.part == "train")
        return self.features

    def _kept_fit(
        self,
        name: str,
        train: tuple[RunFeatures, ...],
        depends_on: dict[str, Any],
        *,
        held_out: tuple[RunFeatures, ...] = (),
        lag_s: float | None = None,
        seed: list[int] | None = None,
    ) -> Fit:
        """Fit, or take up what a run before this one fitted."""
        began = time.perf_counter()
        keep = self.updatable and name == _FINAL
        made: list[Fit] = []

        def work() -> StepResult:
            rng = None if seed is None else np.random.default_rng(seed)
            made.append(
                fit_part(
                    train,
                    self.targets,
                    self.plan,
                    rois=self.rois,
                    shuffle=rng,
                    lag_s=lag_s,
                    others=self.others,
                    held_out=held_out,
                    keep_features=keep,
                )
            )
            return fit_to_step(made[0])

        kept = self.steps.run(name, {"key": self.key, **depends_on}, work)
        self.seconds[name] = time.perf_counter() - began
        if made:
            return made[0]
        return fit_from_step(kept, train, self.targets, self.plan, keep_features=keep)


def _with_stimuli(dataset: Dataset, others: Sequence[Dataset]) -> Dataset:
    """Return the data set with what others heard too."""
    stimuli = dict(dataset.stimuli)
    for other in others:
        stimuli = {**other.stimuli, **stimuli}
    return replace(dataset, stimuli=stimuli)


def _digest(
    runs: tuple[Run, ...],
    plan: Plan,
    settings: CalibrationSettings,
    *,
    people: OtherPeople | None,
    targets: str,
    rois: Mapping[str, NDArray[np.intp]],
) -> str:
    """Return a digest of all that a fit depends on; how its scores are tested is no part of it."""
    signals = [array_digest(run.signal, run.stamps_s) for run in runs]
    events = [[run.key, run.part, [_plain(event) for event in run.events]] for run in runs]
    chosen = settings_to_json(replace(settings, evaluation=plan.evaluation))
    plain = plan.to_json()
    for name in ("n_permutations", "n_bootstrap", "n_shuffled", "families"):
        del plain["evaluation"][name]
    regions = {name: array_digest(columns) for name, columns in rois.items()}
    known = [_VERSION, signals, events, plain, chosen["target"], targets, regions]
    if people is not None:
        known.append(people.digest)
    text = json.dumps(known, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


_FINAL = "final"  # the step of the bundle's decoder
_VERSION = 2  # of the fit; a change of what is fitted must not take up old steps


def _plain(event: Event) -> list[Any]:
    return [event.onset_s, event.duration_s, event.stimulus, event.label]
