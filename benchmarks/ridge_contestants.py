"""Who takes part in the ridge benchmark; run as a module, one of them, once, in its own process.

It needs NumPy and the contestant only, so that it also runs in an environment of the contestant's.
A further contestant is a function here and a line in `CONTESTANTS`.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONTESTANTS", "Contestant"]

Array: TypeAlias = NDArray[Any]
Fit: TypeAlias = Callable[[Array, Array, Array, int], tuple[Array, Array]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to fit the workload."""

    fit: Fit  # (x, y, alphas, n_selected) -> weights (n_features, n_targets), alphas (n_targets,)
    sizes: str  # at which it takes part
    does: str
    held_against: str = ""  # whose penalties and weights it should have


def _ours(x: Array, y: Array, alphas: Array, n_selected: int) -> tuple[Array, Array]:
    from models.ridge.estimator import Ridge

    model = Ridge(alphas, cv=5, fit_intercept=False).fit(x, y)
    return model.weights()[0], np.asarray(model.alpha_)


def _ours_leave_one_out(x: Array, y: Array, alphas: Array, n_selected: int) -> tuple[Array, Array]:
    from models.ridge.estimator import Ridge

    model = Ridge(alphas, cv=len(x), fit_intercept=False).fit(x, y)
    return model.weights()[0], np.asarray(model.alpha_)


def _ours_torch(x: Array, y: Array, alphas: Array, n_selected: int) -> tuple[Array, Array]:
    from models.ridge.estimator import Ridge

    model = Ridge(alphas, cv=5, fit_intercept=False, backend="torch").fit(x, y)
    return model.weights()[0], np.asarray(model.alpha_)


def _himalaya(x: Array, y: Array, alphas: Array, n_selected: int) -> tuple[Array, Array]:
    from himalaya.kernel_ridge import KernelRidgeCV
    from sklearn.model_selection import KFold

    model = KernelRidgeCV(alphas=alphas, cv=KFold(5), fit_intercept=False).fit(x, y)
    return model.get_primal_coef(), model.best_alphas_


def _sklearn(x: Array, y: Array, alphas: Array, n_selected: int) -> tuple[Array, Array]:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas, alpha_per_target=True, fit_intercept=False).fit(x, y)
    return model.coef_.T, model.alpha_


def _selected(x: Array, y: Array, alphas: Array, n_selected: int) -> tuple[Array, Array]:
    from models.ridge.selected import SelectedRidge

    model = SelectedRidge(n_selected, alphas, cv=5).fit(x, y)
    return model.weights()[0], np.asarray(model.alpha_)


def _selected_once(x: Array, y: Array, alphas: Array, n_selected: int) -> tuple[Array, Array]:
    from models.ridge.selected import SelectedRidge

    model = SelectedRidge(n_selected, alphas[:1], penalise_bias=True).fit(x, y)
    return model.weights()[0], np.asarray(model.alpha_)


def _fastl2lir_once(x: Array, y: Array, alphas: Array, n_selected: int) -> tuple[Array, Array]:
    from fastl2lir import FastL2LiR

    model = FastL2LiR()
    model.fit(x, y, alpha=float(alphas[0]), n_feat=n_selected, dtype=np.float32)
    return model.W, np.full(y.shape[1], alphas[0])


CONTESTANTS = {
    "ours": Contestant(_ours, "SML", "5 folds, one alpha per target", "himalaya"),
    "ours, torch": Contestant(_ours_torch, "S", "the same by torch", "himalaya"),
    "himalaya": Contestant(_himalaya, "SML", "KernelRidgeCV, 5 folds, one alpha per target"),
    "ours, leave one out": Contestant(
        _ours_leave_one_out, "S", "as many folds as samples", "scikit-learn"
    ),
    "scikit-learn": Contestant(_sklearn, "S", "RidgeCV, leaving one out, one alpha per target"),
    "ours, selected": Contestant(
        _selected, "M", "the most correlated features, chosen inside 5 folds; all alphas"
    ),
    "ours, selected, once": Contestant(
        _selected_once, "M", "the same at one alpha, no folds, bias penalised", "fastl2lir, once"
    ),
    "fastl2lir, once": Contestant(
        _fastl2lir_once, "M", "one alpha, no folds; 5 folds x 20 alphas take it 100 times, and once"
    ),
}


def main() -> None:
    """Fit once; write times, memory, penalties and weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("folder", type=Path, help="with x.npy, y.npy, alphas.npy")
    parser.add_argument("--n-selected", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = arguments.folder
    x, y, alphas = (np.load(folder / f"{name}.npy") for name in ("x", "y", "alphas"))
    fit = CONTESTANTS[arguments.name].fit
    fit(x[:60, :80].copy(), y[:60, :4].copy(), alphas[:3], min(20, arguments.n_selected))  # imports
    wall, cpu = time.perf_counter(), time.process_time()
    weights, chosen = fit(x, y, alphas, arguments.n_selected)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB
    np.save(folder / "weights.npy", np.asarray(weights, np.float32))
    np.save(folder / "chosen.npy", np.asarray(chosen, np.float64))
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
