"""Acoustic tokens for a full-size checkpoint, which brings nothing that makes them: AudioMAE's."""

from __future__ import annotations

from calibration.acoustic.targets import AudioMaeTokens, GeneratorTokens, TokenSource
from calibration.config import GeneratorChoice
from calibration.embedders import make_embedder
from calibration.generated.folder import generator_folder
from calibration.generated.tuned_record import tuned_in_card
from export.generator_files import GeneratorCard
from models.errors import SettingError
from models.stretch import TOKEN_DIM

__all__ = ["check_entering", "token_source"]


def token_source(spec: str, *, last_blocks: int = 1) -> TokenSource:
    """Return what makes tokens of a sound.

    Parameters
    ----------
    spec : str
        "audiomae:" and a file, a folder or a hub id; or "generator:" and the folder of a small
        generator, for a checkpoint that was tuned to its tokens.
    last_blocks : int
        Of AudioMAE; see `AudioMaeTokens`.

    Raises
    ------
    SettingError
        If that is nothing that makes tokens.
    FileError
        If the weights are not there, damaged or of another model.
    """
    kind, _, place = spec.partition(":")
    if kind == "generator" and place:
        return GeneratorTokens(generator_folder(place))
    if not kind.startswith("audiomae"):
        raise SettingError(
            f"{spec!r} makes no acoustic tokens. Name AudioMAE's weights (audiomae:FILE), or a "
            "small generator (generator:FOLDER)."
        )
    embedder = make_embedder(spec, last_blocks=last_blocks)
    if embedder.dim != TOKEN_DIM:
        raise SettingError(
            f"A generator takes tokens of {TOKEN_DIM} values, and {spec!r} gives {embedder.dim}."
        )
    return AudioMaeTokens(embedder.encoder, last_blocks=last_blocks)  # type: ignore[attr-defined]


def check_entering(choice: GeneratorChoice, card: GeneratorCard) -> None:
    """Check that tokens will enter a tuned checkpoint as they did when it was tuned.

    Raises
    ------
    SettingError
        If they would enter otherwise.
    """
    told = tuned_in_card(card)
    for name in ("pooling", "fill", "last_blocks"):
        here, then = getattr(choice, name), told.get(name)
        if then is not None and then != here:
            raise SettingError(
                f"The checkpoint was tuned with {name} = {then!r}, and generator.{name} is "
                f"{here!r}. Set it to {then!r}."
            )
