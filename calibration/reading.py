"""Read the recordings of one participant, as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from calibration.config import DataSettings
from calibration.data.dataset import Dataset
from models.errors import SettingError

__all__ = ["read_participant"]


def read_participant(
    path: Path,
    participant: str | None,
    data: DataSettings,
    *,
    preferred: str | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> Dataset:
    """Read one participant; without a name the only one, or the preferred one if it is there.

    Parameters
    ----------
    path : Path
    participant : str, optional
    data : DataSettings
    preferred : str, optional
        Whose recordings are meant if nobody is named: those of a bundle's participant.
    progress : callable, optional
        Called with runs read and runs in all.

    Raises
    ------
    SettingError
        If there are several, and nobody was named.
    FileError
        If the recordings cannot be read.
    """
    from calibration.readers import list_participants, read_dataset

    if participant is None:
        found = list_participants(path)
        if preferred in found:
            participant = preferred
        elif len(found) == 1:
            participant = found[0]
        else:
            raise SettingError(
                f"{path.name} has {len(found)} participants: {', '.join(found)}. Name one with "
                "--participant."
            )
    options = data.options()
    dataset = read_dataset(path, participant=participant, progress=progress, **options)
    if data.roi and dataset.format != "bdata" and dataset.space is not None:
        from calibration.columns import roi_columns, select_columns

        dataset = select_columns(dataset, roi_columns(dataset.space, data.roi))
    return dataset
