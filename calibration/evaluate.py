"""Score a bundle on recordings, by the same files that a live session runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calibration.bundle_reading import bundle_samples, decode_with_bundle, read_about
from calibration.config import CalibrationSettings, settings_to_json
from calibration.generated.bundled import score_bundled
from calibration.report.page import write_report
from calibration.report.result import Result
from calibration.scoring import score_decoded
from calibration.summary import peak_mb, told_target, versions
from export.bundle import Bundle, load_bundle

__all__ = ["EvaluationJob", "evaluate"]


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """One evaluation."""

    bundle: Path
    dataset: Path
    participant: str | None
    settings: CalibrationSettings  # its tables data, evaluation and target.download are used
    out: Path | None = None


def evaluate(
    job: EvaluationJob, *, progress: Callable[[str, float, float], None] | None = None
) -> Result:
    """Decode recordings with a bundle and score them.

    Recordings that the bundle was fitted on are left out; where there are no others, the result is
    stamped leaky.

    Parameters
    ----------
    job : EvaluationJob
    progress : callable, optional

    Raises
    ------
    BundleError
        If the bundle was not made by `hearback calibrate`, or does not fit the recordings.
    HearbackError
        If the recordings cannot be read.
    """
    tell = progress or (lambda _what, _done, _total: None)
    began = time.perf_counter()
    bundle = load_bundle(job.bundle)
    about, rows = read_about(bundle)
    tell("reading", 0, 1)
    heard = bundle_samples(
        bundle,
        about,
        rows,
        job.dataset,
        participant=job.participant,
        settings=job.settings,
    )
    dataset, plan, runs, leaky = heard.dataset, heard.plan, heard.runs, heard.leaky
    who = plan.participant
    tell("decoding", 0, 1)
    decoded = decode_with_bundle(bundle, heard.samples, rows[0])
    sound = score_bundled(
        bundle,
        decoded,
        heard,
        choice=job.settings.generator,
        progress=lambda done, total: tell("generating sound to score it", done, total),
    )
    tell("scoring", 0, 1)
    scored = score_decoded(
        decoded,
        plan,
        dataset=dataset,
        train=None,
        targets=heard.targets,
        decoder_digest=bundle.digest,
        record=job.bundle.with_name(job.bundle.name + ".openings.json"),
    )
    result = Result(
        participant=who,
        dataset=dataset.path.name,
        format=dataset.format,
        modality=dataset.modality,
        target=told_target(plan.target),
        split="recordings that the bundle was fitted on" if leaky else "other recordings",
        leaky=leaky,
        decodable=scored.decodable and not leaky,
        verdict=scored.verdict,
        scores=scored.values,
        by_label=scored.by_label,
        similarity=scored.similarity,
        lag=None,
        alpha=None,
        regions=(),
        region_score="",
        map=None,
        families=(),
        facts={
            "bundle": bundle.manifest.name,
            "runs": len(runs),
            "test_openings": scored.test_openings,
            "lag_s": float(about["lag_s"]),
            "fit_s": 0.0,
            "seconds": round(time.perf_counter() - began, 2),
            "peak_mb": peak_mb(),
        },
        settings=settings_to_json(job.settings),
        software=versions(),
        warnings=(*_of_another(bundle, who), *dataset.warnings, *scored.warnings),
        notes=() if sound is None else sound.notes,
        sound=sound,
    )
    if job.out is not None:
        write_report(result, job.out)
    return result


def _of_another(bundle: Bundle, who: str) -> tuple[str, ...]:
    made_for = bundle.manifest.participant
    if who[:200].removeprefix("sub-") == made_for.removeprefix("sub-"):
        return ()
    return (
        f"The bundle was made for {made_for}, and these are recordings of {who}: a decoder of one "
        "brain rarely says anything of another.",
    )
