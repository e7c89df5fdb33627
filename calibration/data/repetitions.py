"""From published samples, one row a presentation, to `Samples` with repetitions as a dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.data.dataset import Epochs, Stimulus
from calibration.data.samples import Samples
from models.errors import FileError

__all__ = ["epoch_samples"]


def epoch_samples(
    epochs: Epochs,
    target: Callable[[Stimulus, float, float], ArrayLike],
    *,
    stimuli: Mapping[str, Stimulus],
    part: str | None = None,
) -> Samples:
    """Return one row for each stretch of each stimulus, and its repetitions beside each other.

    Parameters
    ----------
    epochs : Epochs
        (n_presentations, n_voxels).
    target : callable
        (stimulus, start_s, stop_s) -> (n_targets,); called once for each row. NaN: all of it.
    stimuli : mapping of str to Stimulus
        Of the data set.
    part : str, optional
        Only rows of this part ("train", "test").

    Returns
    -------
    samples : Samples
        x is (n, n_repetitions, n_voxels), NaN where a row has fewer repetitions than others. `run`
        and `session` are those of the file. Without times in the file, `order` is the row number
        of the first presentation, and no `previous_clip` is known.

    Raises
    ------
    FileError
        If no row is of this part.
    """
    keep = np.flatnonzero((epochs.part == part) if part is not None else np.ones(len(epochs), bool))
    if not len(keep):
        raise FileError(f"{epochs.participant} has no sample of the part {part!r}.")
    rows: dict[tuple[str, str], list[int]] = {}
    for row in keep.tolist():
        stretch = f"{epochs.start_s[row]:.6f} {epochs.stop_s[row]:.6f}"  # NaN is not equal to NaN
        rows.setdefault((str(epochs.stimulus[row]), stretch), []).append(row)
    together = list(rows.values())
    first = np.array([group[0] for group in together])
    n_repetitions = max(len(group) for group in together)
    x = np.full((len(first), n_repetitions, epochs.values.shape[1]), np.nan, np.float32)
    session = np.full((len(first), n_repetitions), "", epochs.session.dtype)
    run = np.full((len(first), n_repetitions), "", epochs.run.dtype)
    for k, group in enumerate(together):
        x[k, : len(group)] = epochs.values[group]
        session[k, : len(group)] = epochs.session[group]
        run[k, : len(group)] = epochs.run[group]
    known = [stimuli[name] for name in epochs.stimulus[first].tolist()]
    y: NDArray[np.float64] = np.array(
        [
            np.asarray(target(item, start, stop), np.float64)
            for item, start, stop in zip(
                known, epochs.start_s[first].tolist(), epochs.stop_s[first].tolist(), strict=True
            )
        ]
    )
    return Samples(
        x=x,
        y=y,
        clip=epochs.stimulus[first],
        label=np.array([item.label for item in known], dtype=np.str_),
        start_s=epochs.start_s[first],
        stop_s=epochs.stop_s[first],
        person=np.full(len(first), epochs.participant),
        session=session,
        run=run,
        previous_clip=np.full(len(first), ""),
        order=first.astype(np.float64),
    )
