"""Where a generator is: the folder that a person names, or the one that ships."""

from __future__ import annotations

from pathlib import Path

from export.generator_files import CARD_FILE
from models.errors import FileError

__all__ = ["DEFAULT_GENERATOR", "generator_folder", "ships_generator"]

DEFAULT_GENERATOR = Path(__file__).resolve().parents[1] / "generators" / "tiny"


def ships_generator() -> bool:
    """Return whether this installation has the default generator."""
    return (DEFAULT_GENERATOR / CARD_FILE).is_file()


def generator_folder(place: str | Path) -> Path:
    """Return the folder of a generator.

    Parameters
    ----------
    place : str or Path
        A folder that `hearback export` wrote, or "default" for the one that ships.

    Raises
    ------
    FileError
        If there is no generator.
    """
    folder = DEFAULT_GENERATOR if str(place) == "default" else Path(place)
    if (folder / CARD_FILE).is_file():
        return folder
    if str(place) == "default":
        raise FileError(
            "This installation has no default generator. Train one (hearback train small), export "
            "it (hearback export), and give its folder instead of 'default'."
        )
    raise FileError(
        f"{folder} holds no generator: there is no {CARD_FILE}. Give a folder that `hearback "
        "export` wrote."
    )
