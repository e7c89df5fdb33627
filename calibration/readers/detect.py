"""Which format a data set has, told from its files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from models.errors import FileError, SettingError

__all__ = ["FORMATS", "detect_format", "format_module"]

# Name -> module; in the order in which they are tried, the particular ones first.
FORMATS = {
    "ds003720": "ds003720",
    "ds003020": "ds003020",
    "bdata": "bdata",
    "nmed-t": "nmed_t",
    "bids-func": "bids_func",
    "bids-eeg": "bids_eeg",
    "nifti": "nifti_folder",
    "recordings": "recordings",
}
_OTHER_NAMES = {
    "haxby": "nifti",
    "xdf": "recordings",
    "csv": "recordings",
    "session": "recordings",
    "bids": "",
}


def detect_format(path: Path | str) -> str:
    """Return the name of a data set's format, one of `FORMATS`.

    Raises
    ------
    FileError
        If there is nothing, or nothing that is known.
    SettingError
        If a folder holds BIDS images and BIDS EEG.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"No data set at {path}. Check the path.")
    for name in FORMATS:
        if format_module(name).matches(path):
            if name == "bids-func" and format_module("bids-eeg").matches(path):
                raise SettingError(
                    f"{path} holds functional images and EEG. Say which: format 'bids-func' or "
                    f"'bids-eeg'."
                )
            return name
    here = ", ".join(sorted(item.name for item in path.iterdir())[:6]) if path.is_dir() else ""
    raise FileError(
        f"{path} is no data set that can be read{f' (it holds {here})' if here else ''}; expected "
        f"BIDS, NIfTI runs with *_events.tsv, XDF or EEG recordings, .hf5, BData .h5 or NMED-T "
        f".mat."
    )


def format_module(name: str) -> Any:
    """Return the module that reads a format: `matches`, `participants` and `read`.

    Raises
    ------
    SettingError
        If no format has this name.
    """
    name = _OTHER_NAMES.get(name, name)
    if name not in FORMATS:
        raise SettingError(f"No format {name!r}; there are {', '.join(FORMATS)}.")
    return import_module(f"calibration.readers.{FORMATS[name]}")
