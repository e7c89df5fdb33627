"""Compute a paper's numbers on its data: ours, the paper's, and the controls."""

from __future__ import annotations

from importlib import import_module

from calibration.reproduce.options import Progress, ReproduceOptions
from calibration.reproduce.record import Reproduction
from calibration.reproduce.tables import PAPERS
from models.errors import SettingError

__all__ = ["reproduce"]


def reproduce(
    paper: str, options: ReproduceOptions, *, progress: Progress | None = None
) -> Reproduction:
    """Compute every row of a paper's tables that can be computed now.

    Parameters
    ----------
    paper : str
        One of `calibration.reproduce.tables.PAPERS`.
    options : ReproduceOptions
    progress : callable, optional
        Called with what is being done, how much of it is done, and how much there is.

    Raises
    ------
    SettingError
        If there is no such paper, table or embedding.
    FileError
        If the data set, sounds or weights are not at hand, or are others.
    """
    if paper not in PAPERS:
        raise SettingError(f"No paper is called {paper!r}; there are {', '.join(PAPERS)}.")
    module = import_module(f"calibration.reproduce.{paper.replace('-', '_')}")
    unknown = [name for name in options.only if name not in module.TABLES]
    if unknown:
        raise SettingError(
            f"{paper} has no table {unknown[0]!r}; it has {', '.join(map(repr, module.TABLES))}."
        )
    page: Reproduction = module.reproduce(
        options, progress=progress or (lambda _what, _done, _total: None)
    )
    return page
