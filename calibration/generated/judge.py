"""What scores generated sound: an encoder that neither was decoded to nor taught the generator."""

from __future__ import annotations

from calibration.config import GeneratorChoice
from calibration.embedders import make_embedder
from calibration.embedders.base import Embedder
from calibration.generated.folder import generator_folder
from models.errors import SettingError

__all__ = ["make_judge", "same_space"]


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
    name = choice.judge or f"generator-judge:{folder}"
    if choice.judge is None and not (folder / "judge.onnx").is_file():
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
