"""From a finished fine-tuning to a bundle with both tuned parts, scored on what they never heard.

    tuned denoiser -> exported generator, tuned acoustic decoder -> calibration -> bundle

The semantic decoder is fitted anew on the same recordings, by the same choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.bundle_out import check_out
from calibration.config import CalibrationSettings, TargetSettings
from calibration.finetune.settings import BrainTraining
from calibration.generated.tuned_record import read_tuned, tuned_in_card
from calibration.pipeline import CalibrationJob, calibrate
from export.generator_files import CARD_FILE, read_generator_card
from export.tuned_checkpoint import read_tuned_checkpoint
from models.errors import FileError

if TYPE_CHECKING:
    from calibration.report.result import Result
    from export.generator_folder import Checks

__all__ = ["bundle_settings", "bundle_tuned", "check_bundle"]

_STAGES = ("encoder", "judge", "codec", "tokens", "vocoder", "generator")


def check_bundle(settings: BrainTraining, bundle: Path) -> None:
    """Refuse, before hours of work, what cannot become a bundle.

    Parameters
    ----------
    settings : BrainTraining
    bundle : Path
        Folder to make.

    Raises
    ------
    FileError
        If a stage that a live generator needs is missing, or the bundle cannot be written.
    """
    if settings.generator is not None:
        _check_stages(settings.generator)
    if settings.participant is not None:
        check_out(bundle, settings.participant)


def _check_stages(training: Path) -> None:
    for stage in _STAGES:
        if not (training / stage / "final.safetensors").is_file():
            raise FileError(
                f"A bundle needs the trained stage '{stage}', and {training} lacks it. Train it "
                f"(hearback train small --out {training} --resume), or leave --bundle out."
            )


def bundle_settings(settings: BrainTraining, out: Path, generator: Path) -> CalibrationSettings:
    """Return the settings of a calibration that takes what was tuned.

    Parameters
    ----------
    settings : BrainTraining
    out : Path
        Folder of the fine-tuning.
    generator : Path
        Folder of the generator that was exported from it.
    """
    ends, full = replace(settings.calibration.generator, folder=generator), settings.full
    if full is None:
        ends = replace(ends, chain="coarse-to-fine", tuned=out)
    elif full.family == "musicldm":
        ends = replace(ends, chain="semantic")  # it takes no tokens, so no decoder was tuned
    else:
        ends = replace(
            ends,
            chain="coarse-to-fine",
            tuned=out,
            tokens=full.tokens,
            pooling=full.pooling,
            fill=full.fill,
            last_blocks=full.last_blocks,
        )
    target = TargetSettings(kind=None if full is None else full.clap, stretch="window")
    return replace(settings.calibration, generator=ends, target=target)


def bundle_tuned(
    settings: BrainTraining,
    out: Path,
    bundle: Path,
    *,
    checks: Checks | None = None,
    progress: Callable[[str, float, float], None] | None = None,
) -> Result:
    """Export the tuned generator, and calibrate with it and the tuned acoustic decoder.

    Parameters
    ----------
    settings : BrainTraining
        Of the fine-tuning.
    out : Path
        Its folder, finished.
    bundle : Path
        Folder to make.
    checks : Checks, optional
        What the export is put through.
    progress : callable, optional

    Returns
    -------
    result : Result
        Scores of what was held out; none of the sound where nothing was.

    Raises
    ------
    HearbackError
        If networks, recordings or settings do not fit, or something cannot be written.
    """
    out, full = out.absolute(), settings.full
    networks = out if full is None else out / "checkpoint"
    generator = out / f"{out.name}-exported"
    if not _is_exported(networks, generator):
        from export.generator_folder import Checks as DefaultChecks
        from export.sources import export_networks

        if progress is not None:
            progress("exporting the generator", 0, 1)
        export_networks(
            networks,
            generator,
            kind="training" if full is None else "full",
            precision="fp32",
            steps=None,
            teacher=False,
            text=None if full is None else full.text,
            overwrite=True,
            checks=checks or DefaultChecks(),
        )
    chosen = bundle_settings(settings, out, generator)
    job = CalibrationJob(settings.recordings, settings.participant, bundle, chosen)
    return calibrate(job, progress=progress)


def _is_exported(networks: Path, generator: Path) -> bool:
    """Return whether the generator of this very fine-tuning is there already."""
    if not (generator / CARD_FILE).is_file():
        return False
    told = tuned_in_card(read_generator_card(generator)).get("weights")
    note = read_tuned_checkpoint(networks)  # of full size
    return bool(told == (read_tuned(networks).weights if note is None else note.weights))
