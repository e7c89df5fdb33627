"""What stands in a folder that is to be exported, and its networks to a generator folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from export.generator_files import CARD_FILE
from models.errors import FileError, SettingError

if TYPE_CHECKING:
    from export.generator_files import GeneratorCard
    from export.generator_folder import Checks, Precision

__all__ = ["STAGES", "Kind", "export_networks", "kind_of"]

Kind: TypeAlias = Literal["bundle", "generator", "training", "full"]
STAGES = ("encoder", "judge", "codec", "tokens", "vocoder", "generator", "distill")
"""Of a training run, in their order."""


def kind_of(folder: Path) -> Kind:
    """Return what a folder holds.

    Raises
    ------
    FileError
        If it is nothing that can be exported.
    """
    if (folder / "manifest.json").is_file():
        return "bundle"
    if (folder / CARD_FILE).is_file():
        return "generator"
    if any((folder / stage / "final.safetensors").is_file() for stage in STAGES):
        return "training"
    if all((folder / part / "config.json").is_file() for part in ("unet", "vae", "vocoder")):
        return "full"
    raise FileError(
        f"{folder} cannot be exported: expected the folder of a training run (with finished "
        "stages), of a MusicLDM or AudioLDM 2 checkpoint (with unet, vae and vocoder), of an "
        "exported generator, or a bundle."
    )


def export_networks(
    folder: Path,
    out: Path,
    *,
    kind: Kind,
    precision: Precision,
    steps: int | None,
    teacher: bool,
    text: Path | None,
    overwrite: bool,
    checks: Checks,
) -> GeneratorCard:
    """Export a training run or a full-size checkpoint; or an exported small generator anew.

    Parameters
    ----------
    folder, out : Path
    kind : {"training", "full", "generator"}
        From `kind_of`.
    precision, steps, overwrite, checks
        See `export.generator_export.export_generator`.
    teacher : bool
        Training runs: the many-step denoiser.
    text : Path, optional
        AudioLDM 2: the text context.

    Raises
    ------
    SettingError
        If an option does not go with the folder, or torch is missing.
    HearbackError
        See `export_generator`, `read_training`, `read_exported`, `load_full_generator` and
        `export_full`.
    """
    try:
        import torch  # noqa: F401  (only whether it is there)
    except ImportError as error:
        raise SettingError(
            "Exporting networks needs torch. Install it with: pip install 'hearback[train]'"
        ) from error
    if kind == "training":
        from export.checkpoint import read_training
        from export.generator_export import export_generator

        if text is not None:
            raise SettingError("--text goes with AudioLDM 2; a training run takes none.")
        return export_generator(
            read_training(folder, teacher=teacher),
            out,
            steps=steps,
            precision=precision,
            overwrite=overwrite,
            checks=checks,
        )
    if kind == "generator":
        from export.generator_export import export_generator
        from export.generator_files import read_generator_card
        from export.restored import read_exported

        if text is not None or teacher:
            raise SettingError(
                f"{folder} is exported already, and holds one denoiser and no text. Leave "
                "--teacher and --text out."
            )
        spec = read_generator_card(folder).spec
        return export_generator(
            read_exported(folder),
            out,
            steps=steps,
            stretches=spec.stretches,
            held=spec.held,
            precision=precision,
            overwrite=overwrite,
            checks=checks,
        )
    from export.full_export import checkpoint_family, export_full
    from export.text_states import read_text_states
    from export.tuned_checkpoint import read_tuned_checkpoint
    from models.nets.full.loaders import load_full_generator

    if teacher:
        raise SettingError("--teacher goes with a training run; a checkpoint has one denoiser.")
    loaded = load_full_generator(str(folder), checkpoint_family(folder), published=False)
    tuned = read_tuned_checkpoint(folder)
    return export_full(
        loaded.generator,
        out,
        name=folder.resolve().name,
        licence=loaded.licence,
        steps=4 if steps is None else steps,
        text=None if text is None else read_text_states(text),
        precision=precision,
        sampler=(None if tuned is None else tuned.sampler) or "ddim",
        tuned=tuned,
        overwrite=overwrite,
        checks=checks,
    )
