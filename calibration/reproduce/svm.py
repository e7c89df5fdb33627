"""How well a support vector machine tells labels from features, in folds of one set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.embedders.base import needs_train

__all__ = ["svm_accuracy"]


def svm_accuracy(
    features: NDArray[np.float64],
    labels: NDArray[np.str_],
    *,
    groups: NDArray[np.str_] | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> float | None:
    """Return the share of right labels over folds; None where a label has too few examples.

    C2F-LDM does not say which kernel [?]: scikit-learn's default (radial basis functions, C = 1)
    on features z-scored by the training folds.

    Parameters
    ----------
    features : array of shape (n, d)
    labels : array of shape (n,)
    groups : array of shape (n,), optional
        Clips that folds must not divide; without them windows are dealt out at random.
    n_folds : int
        Fewer where a label has fewer examples, or clips.
    seed : int
        Of dealing out.

    Raises
    ------
    SettingError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC
    except ImportError as error:
        raise needs_train("scikit-learn", "The support vector machine") from error
    names, code = np.unique(labels, return_inverse=True)
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    fewest = min(len(np.unique(units[code == k])) for k in range(len(names)))
    n_folds = min(n_folds, fewest)
    if len(names) < 2 or n_folds < 2:
        return None
    folds: Any = (
        StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        if groups is None
        else StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    )
    right = 0
    for train, test in folds.split(features, code, None if groups is None else units):
        if len(np.unique(code[train])) < 2:
            return None
        model: Any = make_pipeline(StandardScaler(), SVC())
        said = model.fit(features[train], code[train]).predict(features[test])
        right += int(np.sum(said == code[test]))
    return right / len(code)
