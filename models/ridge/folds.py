"""Folds that never split a group: the one place where training and held-out data are separated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError

__all__ = ["Folds", "fold_numbers", "group_folds", "make_folds"]

Folds: TypeAlias = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def fold_numbers(
    n_samples: int,
    n_folds: int,
    *,
    groups: ArrayLike | None = None,
    neighbours_together: bool = False,
) -> NDArray[np.intp]:
    """Return for each sample the fold that holds it out.

    Parameters
    ----------
    n_samples, n_folds : int
    groups : array of shape (n_samples,), optional
        A label for each sample: its run, clip or session. Without groups every sample is its own,
        and folds are successive blocks, since neighbours in time are alike.
    neighbours_together : bool
        If so, each fold is a stretch of groups that follow one another (in the order in which they
        first appear), about equally many in each: for groups that are neighbours in time and may
        therefore be alike. If not, groups are dealt out from the largest to the smallest, each to
        the fold with fewest samples, which makes folds of equal size.

    Returns
    -------
    fold : array of shape (n_samples,), intp
        From 0 to n_folds - 1; each occurs.

    Raises
    ------
    SettingError
        If there are fewer groups (or samples) than folds, fewer than 2 folds, or labels and
        samples differ in number.
    """
    if groups is None:
        _check_count(n_folds, n_samples)
        return np.asarray(np.arange(n_samples) * n_folds // max(n_samples, 1), np.intp)
    labels = np.asarray(groups)
    if labels.shape != (n_samples,):
        raise SettingError(
            f"Expected a group label for each of {n_samples} samples, got shape {labels.shape}."
        )
    _, first, group, counts = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    n_groups = len(counts)
    _check_count(n_folds, n_groups)
    fold_of_group = np.empty(n_groups, np.intp)
    if neighbours_together:
        fold_of_group[np.argsort(first)] = np.arange(n_groups) * n_folds // n_groups
    else:
        load = np.zeros(n_folds)
        for which in np.argsort(-counts, kind="stable"):
            fold_of_group[which] = np.argmin(load)
            load[fold_of_group[which]] += counts[which]
    return np.asarray(fold_of_group[group], np.intp)


def group_folds(
    n_samples: int,
    n_folds: int,
    *,
    groups: ArrayLike | None = None,
    neighbours_together: bool = False,
) -> Folds:
    """Return (training, held-out) indices of each fold; a group is never in both.

    Parameters and errors are those of `fold_numbers`.

    Returns
    -------
    folds : list of (training, held-out)
        Both in rising order; each sample is held out once.
    """
    fold = fold_numbers(n_samples, n_folds, groups=groups, neighbours_together=neighbours_together)
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


def make_folds(
    cv: int | Iterable[Sequence[Any]] | Any, n_samples: int, *, groups: ArrayLike | None = None
) -> Folds:
    """Return the folds that `cv` means.

    Parameters
    ----------
    cv : int, iterable of (training, held-out), or splitter
        A number of folds for `group_folds`; the index arrays themselves; or an object with
        scikit-learn's ``split(X, y, groups)``.
    n_samples : int
    groups : array of shape (n_samples,), optional
        For a number of folds or a splitter; with given index arrays it is checked that none is on
        both sides.

    Raises
    ------
    SettingError
        If a fold is empty, holds out a sample that it trains on, names a sample that is not there,
        or splits a group.
    """
    if isinstance(cv, int | np.integer):
        return group_folds(n_samples, int(cv), groups=groups)
    try:
        pairs: Any = cv
        if hasattr(pairs, "split") and not isinstance(cv, str):
            pairs = pairs.split(np.zeros((n_samples, 1)), None, groups)
        folds = [(_indices(train, n_samples), _indices(test, n_samples)) for train, test in pairs]
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(
            f"Expected cv to be a number of folds, (training, held-out) index pairs or a splitter, "
            f"got {cv!r}."
        ) from error
    if not folds:
        raise SettingError("Expected at least one (training, held-out) pair in cv, got none.")
    labels = None if groups is None else np.asarray(groups)
    for number, (train, test) in enumerate(folds):
        if len(train) == 0 or len(test) == 0:
            raise SettingError(f"Fold {number} of cv has no training or no held-out samples.")
        if np.intersect1d(train, test).size:
            raise SettingError(f"Fold {number} of cv holds out samples that it also trains on.")
        if labels is not None and np.intersect1d(labels[train], labels[test]).size:
            raise SettingError(
                f"Fold {number} of cv has samples of one group on both sides. Leave groups out, or "
                "give folds that respect them."
            )
    return folds


def _check_count(n_folds: int, n_groups: int) -> None:
    if not 2 <= n_folds <= n_groups:
        raise SettingError(
            f"Expected 2 to {n_groups} folds for {n_groups} groups, got {n_folds}. Lower cv, give "
            "finer groups, or give one alpha, which needs no cross-validation."
        )


def _indices(index: ArrayLike, n_samples: int) -> NDArray[np.intp]:
    """Return indices in rising order, from indices or a mask."""
    values = np.asarray(index)
    if values.dtype == np.bool_:
        values = np.flatnonzero(values)
    values = np.unique(values).astype(np.intp)
    if values.size and (values[0] < 0 or values[-1] >= n_samples):
        raise SettingError(f"cv names samples outside 0 to {n_samples - 1}.")
    return values
