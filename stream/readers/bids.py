"""BIDS data sets: finds the recording, and what the tables and sidecars around it say.

Sidecars are inherited as the standard says: a file higher up applies to all recordings below whose
name has all its entities; what lies nearer goes before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.errors import FileError, SettingError
from stream.readers.checks import check_fetched
from stream.readers.eeg_file import ChannelTable, read_eeg_file
from stream.readers.nifti import read_nifti
from stream.readers.tables import read_json, read_table
from stream.recordings import Recording

__all__ = ["entities", "inherited", "inherited_json", "is_bids_name", "read_bids", "read_bids_file"]

_EEG_ENDINGS = ("_eeg.vhdr", "_eeg.edf", "_eeg.bdf", "_eeg.set", "_ieeg.vhdr", "_ieeg.edf")
_BOLD_ENDINGS = ("_bold.nii.gz", "_bold.nii")


def is_bids_name(path: Path) -> bool:
    """Tell whether a file is named as a BIDS recording."""
    return path.name.startswith("sub-") and path.name.lower().endswith(_EEG_ENDINGS + _BOLD_ENDINGS)


def read_bids(
    root: Path,
    *,
    subject: str | None = None,
    session: str | None = None,
    task: str | None = None,
    run: str | None = None,
    unit: str | None = None,
    mask: str | Path | None = None,
    tr_s: float | None = None,
    events: str | Path | None = None,
) -> Recording:
    """Read the one EEG or BOLD recording of a folder that fits.

    Raises
    ------
    FileError
        If the folder holds no recording, or the recording cannot be read.
    SettingError
        If several fit; the message lists them.
    """
    wishes = {
        key: value.removeprefix(f"{key}-")
        for key, value in (("sub", subject), ("ses", session), ("task", task), ("run", run))
        if value is not None
    }
    found = _recordings(root)
    if not found:
        sidecars = [*root.rglob("sub-*_eeg.json"), *root.rglob("sub-*_bold.json")]
        reason = (
            f" There are sidecars of {len(sidecars)}, so the recordings themselves were not "
            f"fetched: git annex get, or datalad get."
            if sidecars
            else " Give a recording, or the root of a BIDS data set."
        )
        raise FileError(
            f"{root} holds no BIDS recording (sub-*_eeg.vhdr/.edf/.bdf/.set or "
            f"sub-*_bold.nii/.nii.gz).{reason}"
        )
    fitting = [
        path for path in found if all(entities(path.name).get(k) == v for k, v in wishes.items())
    ]
    if fitting and not any(path.exists() and path.stat().st_size for path in fitting):
        raise FileError(
            f"{root} holds {len(fitting)} recordings, all of them empty or links to nothing: their "
            f"content was not fetched. Fetch it: git annex get FILE, or datalad get FILE."
        )
    if len(fitting) != 1:
        listed = fitting or found
        names = ", ".join(path.name for path in listed[:8]) + (", ..." if len(listed) > 8 else "")
        wish = ", ".join(f"{key}-{value}" for key, value in wishes.items()) or "no choice"
        raise SettingError(
            f"One recording is expected; {len(fitting)} of {len(found)} in {root.name} fit "
            f"({wish}): {names}. Choose by subject, session, task and run, or give the file."
        )
    return read_bids_file(fitting[0], unit=unit, mask=mask, tr_s=tr_s, events=events)


def _recordings(root: Path) -> list[Path]:
    """Return recordings below a folder, broken links (content not fetched) among them."""
    derived = {"derivatives", "sourcedata", "code"}
    return sorted(
        path
        for path in root.rglob("sub-*")
        if is_bids_name(path) and not derived.intersection(path.relative_to(root).parts)
    )


def read_bids_file(
    path: Path,
    *,
    unit: str | None = None,
    mask: str | Path | None = None,
    tr_s: float | None = None,
    events: str | Path | None = None,
) -> Recording:
    """Read one recording of a BIDS data set with all that applies to it.

    Raises
    ------
    FileError
        If the recording, or a table that applies to it, cannot be read.
    """
    check_fetched(path)
    table = Path(events) if events is not None else inherited(path, "events.tsv")
    if path.name.lower().endswith(_BOLD_ENDINGS):
        sidecar = inherited_json(path, "bold.json")
        return read_nifti(path, mask=mask, tr_s=tr_s, events=table, sidecar=sidecar)
    channels = inherited(path, "channels.tsv")
    return read_eeg_file(
        path, unit=unit, events=table, table=None if channels is None else _channels(channels)
    )


def _channels(path: Path) -> ChannelTable:
    rows = read_table(path)
    if rows and not {"name", "type"} <= set(rows[0]):
        raise FileError(f"{path.name} lacks the column 'name' or 'type'. Correct the table.")
    bads = tuple(row["name"] for row in rows if row.get("status", "").lower() == "bad")
    return ChannelTable({row["name"]: row["type"] for row in rows}, bads)


def entities(name: str) -> dict[str, str]:
    """Return the key-value pairs of a BIDS file name, e.g. {"sub": "01", "run": "1"}."""
    pairs = (part.partition("-") for part in name.split(".")[0].split("_"))
    return {key: value for key, dash, value in pairs if dash}


def _levels(path: Path) -> list[Path]:
    """Return the folders from the root of the data set down to that of the recording."""
    levels = [path.parent]
    while levels[0].name in ("eeg", "ieeg", "func") or levels[0].name.startswith(("ses-", "sub-")):
        levels.insert(0, levels[0].parent)
    return levels


def _applying(path: Path, ending: str) -> list[Path]:
    """Return all files with this ending that apply, the nearest last."""
    wanted = entities(path.name)
    found: list[Path] = []
    for folder in _levels(path):
        here = [
            item
            for item in (*folder.glob(f"*_{ending}"), *folder.glob(ending))
            if entities(item.name).items() <= wanted.items()
        ]
        found += sorted(here, key=lambda item: (len(entities(item.name)), item.name))
    return found


def inherited(path: Path, ending: str) -> Path | None:
    """Return the nearest table that applies to a recording, e.g. for `ending` "events.tsv"."""
    found = _applying(path, ending)
    return found[-1] if found else None


def inherited_json(path: Path, ending: str) -> dict[str, Any]:
    """Return the merged sidecars of a recording; keys that are nearer go before.

    Raises
    ------
    FileError
        If one of them is not a JSON object.
    """
    merged: dict[str, Any] = {}
    for sidecar in _applying(path, ending):
        merged.update(read_json(sidecar))
    return merged
