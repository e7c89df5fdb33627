"""From a participant's recordings to a bundle and an honest report, in steps that are kept.

    read -> features -> for each fold: fit on the rest, decode it -> score -> fit for the bundle

A rerun goes on where the last one stopped; what was changed is calculated anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.bundle_out import check_out, write_bundle
from calibration.config import CalibrationSettings, settings_to_json
from calibration.data.dataset import Dataset
from calibration.decoders import alpha_curve
from calibration.fold_fits import FoldFits, Progress, fit_key
from calibration.generated.calibrated import GeneratorEnd
from calibration.generated.conditions import as_given
from calibration.methods.others import other_people
from calibration.plan import make_plan
from calibration.reading import read_participant
from calibration.recalibrate import keep_state
from calibration.report.result import Result
from calibration.roi_ensemble import feature_rois
from calibration.run_features import run_features
from calibration.scoring import score_decoded
from calibration.steps import Steps
from calibration.summary import make_result, peak_mb
from calibration.target_choice import choose_targets, target_digest
from models.errors import SettingError

__all__ = ["CalibrationJob", "calibrate", "calibrate_dataset"]


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
    end = None
    if settings.generator.folder is not None:  # refused before hours of work, not after them
        end = GeneratorEnd(settings.generator, plan.target)
    runs = dataset.of(participant)
    if end is not None:
        plan = end.tuned.planned(plan, runs, alone=not others)
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
    key = fit_key(
        runs,
        plan,
        settings,
        people=people,
        targets=target_digest(_with_stimuli(dataset, others), targets, runs),
        rois=rois if plan.decoder.kind == "roi-ensemble" else {},
    )
    work = FoldFits(plan, features, targets, rois, steps, tell, key, people, settings.updatable)
    if end is not None:
        work.tokens = end.token_fits(
            _with_stimuli(dataset, others).stimuli,
            targets,
            plan,
            hop_s=features[0].hop_s,
            rois=rois,
        )
    decoded, train = work.decode_all()
    fit = work.fit_final()
    shuffled = work.shuffled()
    if end is not None:
        decoded, shuffled = as_given(decoded, shuffled)
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
    generated, sound = None, None
    if end is not None:
        tell("latents of the library", 0, 1)
        library = end.library(dataset, plan, fit, targets, settings)
        generated = end.fitted(targets, library, work.fit_acoustic())
        sound = end.score(
            decoded,
            shuffled,
            dataset=dataset,
            plan=plan,
            library=library,
            hop_s=features[0].hop_s,
            held=work.held,
            tokens=None if work.tokens is None else np.concatenate(work.tokens.decoded),
            true_tokens=(
                np.concatenate(work.tokens.true) if work.tokens and work.tokens.true else None
            ),
            progress=lambda done, total: tell("generating sound to score it", done, total),
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
        "fit_s": round(work.fit_s, 3),
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
        sound=sound,
    )
    if settings.updatable and steps.folder is not None:
        tell("keeping what an update needs", 0, 1)
        keep_state(steps.folder, fit, plan)
    tell("writing the bundle", 0, 1)
    write_bundle(out, dataset=dataset, plan=plan, fit=fit, targets=targets, result=result,
                 settings=settings, generated=generated)  # fmt: skip
    tell("done", 1, 1)
    return result


def _with_stimuli(dataset: Dataset, others: Sequence[Dataset]) -> Dataset:
    """Return the data set with what others heard too."""
    stimuli = dict(dataset.stimuli)
    for other in others:
        stimuli = {**other.stimuli, **stimuli}
    return replace(dataset, stimuli=stimuli)
