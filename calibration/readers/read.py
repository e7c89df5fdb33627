"""One call that reads a data set of any format that is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.data.dataset import Dataset
from calibration.readers.detect import detect_format, format_module
from calibration.readers.options import ReadOptions, as_tuple
from models.errors import FileError

__all__ = ["list_participants", "read_dataset"]


def read_dataset(
    path: Path | str,
    *,
    participant: str | Sequence[str] | None = None,
    format: str | None = None,  # noqa: A002 - what a user calls it
    sessions: str | Sequence[str] | None = None,
    runs: str | Sequence[str] | None = None,
    tasks: str | Sequence[str] | None = None,
    select: str | None = None,
    mask: Path | str | None = None,
    labels: Path | str | Sequence[Path | str] | None = None,
    label_names: Path | str | None = None,
    tr_s: float | None = None,
    stimuli: Path | str | None = None,
    events: Path | str | None = None,
    event_duration_s: float | None = None,
    label_column: str | None = None,
    stimulus_column: str | None = None,
    markers: str | None = None,
    marker_labels: Mapping[str, str] | None = None,
    ignore_labels: Sequence[str] = (),
    channels: Sequence[str] | None = None,
    signal_type: str | None = None,
    unit: str | None = None,
    fill_max_s: float = 0.1,
    roi: str | Sequence[str] = (),
    stimulus_key: str = "sample_name",
    remove_mean: bool = True,
    strict: bool = True,
    progress: Callable[[float, float], None] | None = None,
) -> Dataset:
    """Read the recordings of one or several participants.

    Parameters
    ----------
    path : path
        Folder of the data set, or a single recording.
    participant : str or sequence of str, optional
        Whose; everybody's without it. "01" and "sub-01" are the same.
    format : str, optional
        One of `calibration.readers.detect.FORMATS`, where the files do not tell.
    sessions, runs, tasks : str or sequence of str, optional
        Which of them: full names, or the numbers in them.
    select : str, optional
        Part of the file names to take, where one run has several images ("25mm", "space-T1w").
    mask : path, optional
        BOLD: image whose voxels other than 0 are kept; `{participant}` in it stands for each name.
        Without it: BIDS's brain mask beside the images or in the derivatives, else the voxels that
        stand out in the first run that is not for testing.
    labels : path or sequence of paths, optional
        BOLD: label images, masks or folders of these that make the regions. Without it: BIDS's
        `dseg` images with named labels, as for the mask.
    label_names : path, optional
        Names of the labels, as TSV (index, name) or JSON.
    tr_s : float, optional
        BOLD: repetition time, against what the files say.
    stimuli : path, optional
        Folder of sounds, or CSV/TSV with the columns id, file, start_s, duration_s, label, caption.
    events : path, optional
        Events table of all runs, or (BIDS) the data set whose events tables apply.
    event_duration_s : float, optional
        How long an event lasts whose duration is not said; without it, until the next.
    label_column, stimulus_column : str, optional
        Columns of events tables that give the class, and the id, of what was presented.
    markers : str, optional
        Name of the series of markers, where a recording has several.
    marker_labels : mapping, optional
        Marker, code or class -> class. Events that it does not have are left out.
    ignore_labels : sequence of str
        Classes that are no stimuli ("rest").
    channels, signal_type, unit : optional
        EEG: channels to keep, type of the stream to take, and unit of its values.
    fill_max_s : float
        EEG: gaps up to this long are filled by a line; longer ones cut a run in two.
    roi : str or sequence of str
        BData: keep the voxels of these regions ("AC" is the auditory cortex).
    stimulus_key : str
        BData: the column that names the stimulus.
    remove_mean : bool
        NMED-T: subtract each trial's mean from each channel.
    strict : bool
        Refuse where the number of runs, rows, volumes or samples is not the published one;
        otherwise warn.
    progress : callable, optional
        Called with runs done and runs in all.

    Returns
    -------
    dataset : Dataset
        Each run's `part` is "train" or "test" where the data set says so.

    Raises
    ------
    FileError
        If something is missing, not fetched, damaged, or not what the format promises.
    SettingError
        If an argument fits nothing, or too much.
    """
    path = Path(path)
    options = ReadOptions(
        participants=as_tuple(participant),
        sessions=as_tuple(sessions),
        runs=as_tuple(runs),
        tasks=as_tuple(tasks),
        select=select,
        mask=_path(mask),
        labels=_paths(labels),
        label_names=_path(label_names),
        tr_s=tr_s,
        stimuli=_path(stimuli),
        events=_path(events),
        event_duration_s=event_duration_s,
        label_column=label_column,
        stimulus_column=stimulus_column,
        markers=markers,
        marker_labels=dict(marker_labels or {}),
        ignore_labels=tuple(ignore_labels),
        channels=None if channels is None else tuple(channels),
        signal_type=signal_type,
        unit=unit,
        fill_max_s=fill_max_s,
        roi=as_tuple(roi) or (),
        stimulus_key=stimulus_key,
        remove_mean=remove_mean,
        strict=strict,
        progress=progress,
    )
    with _readable(path):
        dataset: Dataset = _module(path, format).read(path, options)
    if not dataset.epochs and not any(run.events for run in dataset.runs):
        reason = dataset.warnings[0] if dataset.warnings else "No run has an event."
        raise FileError(
            f"{path.name}: nothing says what was presented, so nothing can be fitted. {reason} "
            f"Give an events table or markers, or check marker_labels and ignore_labels."
        )
    return replace(dataset, warnings=tuple(dict.fromkeys(dataset.warnings)))


def list_participants(path: Path | str, *, format: str | None = None) -> tuple[str, ...]:  # noqa: A002
    """Return the names of the participants of a data set, in order, without reading signals.

    Raises
    ------
    FileError
        If there is no data set.
    """
    path = Path(path)
    with _readable(path):
        names: tuple[str, ...] = _module(path, format).participants(path, ReadOptions())
    return names


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a sentence."""
    try:
        yield
    except OSError as error:
        raise FileError(
            f"{error.filename or path} cannot be read: {error.strerror or error}. Check its rights."
        ) from error


def _module(path: Path, form: str | None) -> Any:
    if form is None or form == "bids":
        form = detect_format(path)
    elif not path.exists():
        raise FileError(f"No data set at {path}. Check the path.")
    return format_module(form)


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)


def _paths(paths: Path | str | Sequence[Path | str] | None) -> tuple[Path, ...]:
    if paths is None:
        return ()
    if isinstance(paths, (str, Path)):
        return (Path(paths),)
    return tuple(Path(item) for item in paths)
