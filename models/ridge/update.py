"""A fitted decoder takes a few new samples in: exactly what fitting all of them anew would give.

The penalties, and for a selected ridge the features, stay as they were. A state holds arrays only;
`arrays` and `state_from_arrays` are for `numpy.savez` and back, without pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.ridge.estimator import Ridge, check_data
from models.ridge.gram import Array
from models.ridge.reduction import Reduction
from models.ridge.selected import SelectedRidge
from models.ridge.selected_state import SelectedState

__all__ = ["DecoderState", "DenseState", "decoder_state", "state_from_arrays", "update"]


@dataclass(frozen=True, slots=True, eq=False)
class DenseState:
    """What a `Ridge` needs to take new samples in; n samples fitted, m taken in since.

    With G = X'X of the n centred samples and E the m new ones, H = (G + alpha)^-1 E':
    W = W_0 + H (I + E H + 1 1'/n)^-1 (Y - E W_0), the term 1/n for the intercept, which is not
    penalised (Woodbury's identity). If there are fewer samples than features,
    H = (E' - X'(X X' + alpha)^-1 X E') / alpha.
    """

    reduction: Reduction  # of X X' (n, n), or of X'X where that is smaller
    x: Array  # (n, n_features) centred; (0, n_features) where X'X was reduced
    n: int
    x_mean: Array  # (n_features,) of the n samples; 0 without an intercept
    y_mean: Array  # (n_targets,)
    alphas: NDArray[np.float64]  # (n_alphas,) distinct
    which: NDArray[np.intp]  # (n_targets,) the penalty of each target
    base: Array  # (n_features, n_targets), W_0
    new_x: Array  # (m, n_features), less x_mean
    new_y: Array  # (m, n_targets), less y_mean
    reach: Array  # (n_alphas, m, n_features), H'
    intercept: bool

    @property
    def n_samples(self) -> int:
        """Samples in all."""
        return self.n + len(self.new_x)

    def weights(self) -> tuple[Array, Array]:
        """Return weights (n_features, n_targets) and bias (n_targets,)."""
        weights = self.base.copy()
        offset = np.zeros(len(self.y_mean))
        if len(self.new_x):
            residual = (self.new_y - self.new_x @ self.base).astype(np.float64)
            for number, reach in enumerate(self.reach):
                mine = np.flatnonzero(self.which == number)
                inner = np.eye(len(reach)) + self.new_x.astype(np.float64) @ reach.T
                if self.intercept:
                    inner += 1.0 / self.n
                change = np.linalg.solve(inner, residual[:, mine])  # (m, n_mine)
                weights[:, mine] += reach.T @ change.astype(reach.dtype)
                if self.intercept:
                    offset[mine] = change.sum(axis=0) / self.n
        bias = self.y_mean + offset - self.x_mean.astype(np.float64) @ weights
        return weights, bias.astype(weights.dtype)

    def add(self, x: Array, y: Array) -> DenseState:
        """Return the state with new samples (m, n_features) and (m, n_targets)."""
        new = (x - self.x_mean).astype(self.base.dtype)
        if len(self.x):
            seen = self.reduction.turn(new @ self.x.T)  # (m, n)
            solved = self.reduction.solve(seen, self.alphas)
            solved = self.reduction.turn(solved.reshape(-1, seen.shape[1]), back=True)
            reach = (solved @ self.x).reshape(len(self.alphas), *new.shape)
            np.subtract(new, reach, out=reach)
            reach /= self.alphas[:, np.newaxis, np.newaxis].astype(reach.dtype)
        else:
            solved = self.reduction.solve(self.reduction.turn(new), self.alphas)
            flat = self.reduction.turn(solved.reshape(-1, new.shape[1]), back=True)
            reach = flat.reshape(solved.shape)
        return replace(
            self,
            new_x=np.concatenate([self.new_x, new]),
            new_y=np.concatenate([self.new_y, (y - self.y_mean).astype(self.base.dtype)]),
            reach=np.concatenate([self.reach, reach], axis=1),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all of it as arrays by name."""
        named = {item.name: getattr(self, item.name) for item in fields(self)}
        reduction = named.pop("reduction")
        parts = {f"reduction_{f.name}": getattr(reduction, f.name) for f in fields(reduction)}
        return {"kind": np.array("dense"), **{k: np.asarray(v) for k, v in (named | parts).items()}}


DecoderState: TypeAlias = DenseState | SelectedState


def decoder_state(model: Ridge | SelectedRidge, X: ArrayLike, y: ArrayLike) -> DecoderState:
    """Return what a fitted decoder needs to take new samples in, from the data it was fitted on.

    For `Ridge` this is one reduction of a matrix as large as there are samples (or features, if
    fewer): as long as a fit without folds. Do it in the calibration, not when samples come.

    Parameters
    ----------
    model : Ridge or SelectedRidge
        Fitted.
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples, n_targets) or (n_samples,)

    Raises
    ------
    SettingError
        If the model is not fitted, was fitted on data of another shape, has a penalty of 0, or
        (SelectedRidge) penalises its bias.
    """
    weights, _ = model.weights()
    x, targets = check_data(X, y, dtype=weights.dtype)
    if weights.shape != (x.shape[1], targets.shape[1]):
        raise SettingError(
            f"Expected the data that the model was fitted on, {weights.shape[0]} features and "
            f"{weights.shape[1]} targets, got {x.shape[1]} and {targets.shape[1]}."
        )
    alpha = np.broadcast_to(np.asarray(model.alpha_, np.float64), (targets.shape[1],))
    if alpha.min() <= 0:
        raise SettingError("Updating needs penalties above 0; fit with alphas above 0.")
    if isinstance(model, SelectedRidge):
        if model.penalise_bias:
            raise SettingError("Updating needs a bias that is not penalised; see penalise_bias.")
        return SelectedState.of(
            x, targets, model.indices_, alpha, fit_intercept=model.fit_intercept
        )
    return _dense(x, targets, alpha, intercept=model.fit_intercept)


def update(state: DecoderState, X: ArrayLike, y: ArrayLike) -> DecoderState:
    """Return the state with new samples; `state` stays as it is and shares its large arrays.

    The time does not depend on how many samples came before in earlier updates, but a dense state
    grows by n_alphas x n_features numbers for each: after some hundreds, make it anew.

    Parameters
    ----------
    state : DenseState or SelectedState
    X : array of shape (m, n_features)
    y : array of shape (m, n_targets) or (m,)

    Raises
    ------
    SettingError
        If shapes do not fit or values are not finite.
    """
    weights_dtype = state.y_mean.dtype
    x, targets = check_data(X, y, dtype=weights_dtype)
    expected = len(state.x_mean), len(state.y_mean)
    if (x.shape[1], targets.shape[1]) != expected:
        raise SettingError(
            f"Expected {expected[0]} features and {expected[1]} targets, got {x.shape[1]} and "
            f"{targets.shape[1]}."
        )
    return state.add(x, targets)


def state_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> DecoderState:
    """Return the state that `arrays()` gave, e.g. from ``numpy.load(path, allow_pickle=False)``.

    Raises
    ------
    SettingError
        If an array is missing.
    """
    try:
        kind = str(arrays["kind"])
        if kind == "selected":
            return SelectedState(**{f.name: _plain(arrays[f.name]) for f in fields(SelectedState)})
        reduction = Reduction(**{f.name: arrays[f"reduction_{f.name}"] for f in fields(Reduction)})
        named = {
            f.name: _plain(arrays[f.name]) for f in fields(DenseState) if f.name != "reduction"
        }
        return DenseState(reduction=reduction, **named)
    except KeyError as error:
        raise SettingError(
            f"These arrays are no decoder state: {error} is missing. Make the state again."
        ) from error


def _plain(value: NDArray[Any]) -> Any:
    """Return a number for an array without dimensions."""
    return value.item() if value.ndim == 0 else value


def _dense(x: Array, y: Array, alpha: NDArray[np.float64], *, intercept: bool) -> DenseState:
    n, n_features = x.shape
    zero = np.zeros(n_features), np.zeros(y.shape[1])
    means = (x.mean(axis=0, dtype="f8"), y.mean(axis=0, dtype="f8")) if intercept else zero
    x_mean, y_mean = (mean.astype(x.dtype) for mean in means)
    x, y = x - x_mean, y - y_mean
    alphas, which = np.unique(alpha, return_inverse=True)
    dual = n_features >= n
    reduction = Reduction.of(x @ x.T if dual else x.T @ x)
    side = y if dual else x.T @ y
    turned = reduction.turn(side.T)  # (n_targets, n)
    for number, value in enumerate(alphas):
        mine = np.flatnonzero(which == number)
        turned[mine] = reduction.solve(turned[mine], np.array([value]))[0]
    solved = reduction.turn(turned, back=True)
    base = np.ascontiguousarray(x.T @ solved.T if dual else solved.T)
    none = np.zeros((0, n_features), x.dtype)
    return DenseState(
        reduction=reduction,
        x=x if dual else none,
        n=n,
        x_mean=x_mean,
        y_mean=y_mean,
        alphas=alphas,
        which=np.asarray(which, np.intp),
        base=base,
        new_x=none,
        new_y=np.zeros((0, y.shape[1]), x.dtype),
        reach=np.zeros((len(alphas), 0, n_features), x.dtype),
        intercept=intercept,
    )
