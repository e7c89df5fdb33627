"""The closed-form acoustic decoder: ridge from features and embedding to components of the tokens.

The floor to hold the transformer against, what a laboratory without torch uses, and the base that
the transformer can start from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.low_rank import TokenBasis, fit_basis
from calibration.acoustic.settings import AcousticSettings
from export.onnx_linear import check_onnx
from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.folds import group_folds

__all__ = ["AcousticRidge", "fit_ridge"]

Array = NDArray[np.float32]
_OPSET = 18  # as the other decoders of a bundle
_IR_VERSION = 8


@dataclass(frozen=True, slots=True, eq=False)
class AcousticRidge:
    """Components of the tokens = [features, embedding] W + b, and the basis they belong to."""

    weights: Array  # (n_features + embedding, r)
    bias: Array  # (r,)
    basis: TokenBasis
    n_features: int

    def predict(self, features: NDArray[Any], embeddings: NDArray[Any]) -> Array:
        """Return tokens (n, places, dim) of features (n, n_features) and embeddings."""
        return self.basis.decode(self.values(features, embeddings))

    def values(self, features: NDArray[Any], embeddings: NDArray[Any]) -> Array:
        """Return the components (n, r)."""
        x = np.asarray(features, np.float32) @ self.weights[: self.n_features]
        s = np.asarray(embeddings, np.float32) @ self.weights[self.n_features :]
        return np.asarray(x + s + self.bias)

    def onnx(self) -> bytes:
        """Return the decoder as the bytes of an ONNX file; it needs the package onnx.

        Raises
        ------
        SettingError
            If that is not installed.
        """
        check_onnx()
        from onnx import TensorProto, checker, helper, numpy_helper

        places, dim = self.basis.shape
        q = self.basis.directions.shape[1]
        n_embedding = len(self.weights) - self.n_features
        tensors: dict[str, NDArray[Any]] = {
            "weights": self.weights,
            "bias": self.bias,
            "components": self.basis.components,
            "directions": np.ascontiguousarray(self.basis.directions.T),
            "mean": self.basis.mean,
            "unfolded": np.array([1, places, q], np.int64),
        }
        nodes = [
            helper.make_node("Concat", ["features", "embedding"], ["x"], axis=1),
            helper.make_node("Gemm", ["x", "weights", "bias"], ["values"]),
            helper.make_node("MatMul", ["values", "components"], ["turned"]),
            helper.make_node("Reshape", ["turned", "unfolded"], ["placed"]),
            helper.make_node("MatMul", ["placed", "directions"], ["centred"]),
            helper.make_node("Add", ["centred", "mean"], ["tokens"]),
        ]
        graph = helper.make_graph(
            nodes,
            "acoustic",
            [
                helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, self.n_features]),
                helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, n_embedding]),
            ],
            [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, places, dim])],
            initializer=[numpy_helper.from_array(value, name) for name, value in tensors.items()],
        )
        model = helper.make_model(
            graph,
            producer_name="hearback",
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )
        checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def fit_ridge(
    features: NDArray[Any],
    embeddings: NDArray[Any],
    tokens: NDArray[Any],
    groups: NDArray[Any],
    *,
    settings: AcousticSettings,
    n_folds: int = 5,
) -> tuple[AcousticRidge, Array]:
    """Fit the closed form; one penalty for each component, by folds of whole groups.

    Features and embeddings each get half of the variance, so that one penalty suits both whatever
    their number.

    Parameters
    ----------
    features : array of shape (n, n_features)
    embeddings : array of shape (n, d)
        Decoded, out of fold.
    tokens : array of shape (n, places, dim)
    groups : array of shape (n,)
        Clips: windows of one are never on both sides of a fold.
    settings : AcousticSettings
    n_folds : int

    Returns
    -------
    ridge : AcousticRidge
    held_out : array of shape (n, r), float32
        Components of each window as a ridge says that was fitted without its group. (The basis is
        that of all windows given.)

    Raises
    ------
    SettingError
        If there are fewer than two groups.
    """
    basis = fit_basis(tokens, rank=settings.rank, token_rank=settings.token_rank)
    targets = basis.encode(tokens)
    x, s = np.asarray(features, np.float32), np.asarray(embeddings, np.float32)
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise SettingError(
            f"An acoustic decoder needs windows of 2 clips or more to choose anything, got "
            f"{n_groups}. Record more, or hold out less."
        )
    scale = np.concatenate([_scale(x), _scale(s)])
    together = np.concatenate([x, s], axis=1) * scale
    folds = group_folds(len(x), min(n_folds, n_groups), groups=groups)
    model = Ridge(
        [len(x) * penalty for penalty in settings.penalties], cv=folds, keep_held_out=True
    ).fit(together, targets)
    weights, bias = model.weights()
    held_out = np.asarray(model.held_out_, np.float32).reshape(len(x), -1)
    ridge = AcousticRidge(
        weights=np.asarray(weights * scale[:, None], np.float32),
        bias=np.asarray(bias, np.float32),
        basis=basis,
        n_features=x.shape[1],
    )
    return ridge, held_out


def _scale(block: Array) -> Array:
    """Return what each column is multiplied by so that the variances of a block sum to 1."""
    total = float(np.sum(block.var(axis=0, dtype=np.float64)))
    return np.full(block.shape[1], 1.0 / np.sqrt(max(total, 1e-12)), np.float32)
