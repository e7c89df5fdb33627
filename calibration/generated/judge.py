"""What scores generated sound: an encoder that neither was decoded to nor taught the generator."""

from __future__ import annotations

from pathlib import Path

from calibration.config import GeneratorChoice
from calibration.embedders import make_embedder
from calibration.embedders.base import Embedder
from calibration.generated.folder import DEFAULT_GENERATOR, generator_folder
from export.generator_files import read_generator_card
from models.errors import SettingError

__all__ = ["make_judge", "same_space", "usual_judge"]


def usual_judge(folder: Path) -> str | None:
    """Return what judges a generator's sound if nobody says otherwise; None if nothing is at hand.

    A full-size checkpoint has no judge of its own: the one that ships, else statistics of the mel.
    """
    if (folder / "judge.onnx").is_file():
        return f"generator-judge:{folder}"
    if read_generator_card(folder).spec.family == "small":
        return None
    ships = (DEFAULT_GENERATOR / "judge.onnx").is_file()
    return f"generator-judge:{DEFAULT_GENERATOR}" if ships else "mel-statistics"


def make_judge(choice: GeneratorChoice, target: str) -> Embedder:
    """Return what scores the generated sound: never what it was decoded to.

    Raises
    ------
    SettingError
        If the generator has no judge and none is named, or it is the encoder in whose space was
        decoded.
    """
    assert choice.folder is not None
    folder = generator_folder(choice.folder)
    name = choice.judge or usual_judge(folder)
    if name is None:
        raise SettingError(
            f"The generator {folder.name!r} has no judge of its own. Name what scores its sound: "
            "generator.judge = 'generator-judge:default', or another embedder."
        )
    judge = None if name == target else make_embedder(name)
    if judge is None or same_space(judge, target):
        raise SettingError(
            f"generator.judge is {name!r}, the space that is decoded to: a generator that is "
            "steered by an embedding always pleases it. Name another embedder."
        )
    return judge


def same_space(embedder: Embedder, target: str) -> bool:
    """Return whether an embedder is the encoder of a generator that is the target."""
    kind, _, place = target.partition(":")
    if kind != "generator" or embedder.settings().get("embedder") != "generator-encoder":
        return False
    return embedder.settings() == make_embedder(f"generator:{place}").settings()
