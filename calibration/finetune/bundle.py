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
from models.errors import FileError, SettingError

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
    SettingError
        If a full-size checkpoint is tuned.
    FileError
        If a stage that a live generator needs is missing, or the bundle cannot be written.
    """
    if settings.full is not None or settings.generator is None:
        raise SettingError(
            "--bundle goes with the embedded generator. Export a tuned checkpoint (hearback export "
            "OUT/checkpoint --out GENERATOR), then: hearback calibrate --generator GENERATOR"
        )
    for stage in _STAGES:
        if not (settings.generator / stage / "final.safetensors").is_file():
            raise FileError(
                f"A bundle needs the trained stage '{stage}', and {settings.generator} lacks it. "
                f"Train it (hearback train small --out {settings.generator} --resume), or leave "
                "--bundle out."
            )
    if settings.participant is not None:
        check_out(bundle, settings.participant)


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
    ends = replace(
        settings.calibration.generator, folder=generator, chain="coarse-to-fine", tuned=out
    )
    return replace(settings.calibration, generator=ends, target=TargetSettings(stretch="window"))


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
    out = out.absolute()
    generator = out / f"{out.name}-exported"
    if not _is_exported(out, generator):
        from export.generator_folder import Checks as DefaultChecks
        from export.sources import export_networks

        if progress is not None:
            progress("exporting the generator", 0, 1)
        export_networks(
            out,
            generator,
            kind="training",
            precision="fp32",
            steps=None,
            teacher=False,
            text=None,
            overwrite=True,
            checks=checks or DefaultChecks(),
        )
    chosen = bundle_settings(settings, out, generator)
    job = CalibrationJob(settings.recordings, settings.participant, bundle, chosen)
    return calibrate(job, progress=progress)


def _is_exported(out: Path, generator: Path) -> bool:
    """Return whether the generator of this very fine-tuning is there already."""
    if not (generator / CARD_FILE).is_file():
        return False
    told = tuned_in_card(read_generator_card(generator))
    return told.get("weights") == read_tuned(out).weights
