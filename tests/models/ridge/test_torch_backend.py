"""torch gives what NumPy gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.errors import DeviceError
from models.ridge.estimator import Ridge
from tests.models.ridge.problems import problem

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("solver", ["folds", "blocks"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "n_features"), [(120, 40), (80, 200)])
@pytest.mark.parametrize("n_alphas", [6, 120])
def test_torch_agrees_with_numpy_in_double(
    solver: Any, intercept: bool, n: int, n_features: int, n_alphas: int
) -> None:
    x, y = problem(n, n_features, 5, seed=1, mean=2.0 * intercept)
    y[:, 3] = 0.1
    options: dict[str, Any] = {
        "alphas": np.logspace(-1, 4, n_alphas),
        "solver": solver,
        "fit_intercept": intercept,
        "keep_held_out": True,
    }
    ours, theirs = (Ridge(backend=backend, **options).fit(x, y) for backend in ("torch", "numpy"))
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    np.testing.assert_allclose(ours.cv_scores_, theirs.cv_scores_, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(ours.held_out_, theirs.held_out_, atol=1e-9)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-10 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-10)


@pytest.mark.parametrize("n_features", [30, 300])
def test_torch_agrees_with_numpy_in_single(n_features: int) -> None:
    x, y = problem(100, n_features, 50, seed=2, dtype=np.float32, mean=1)
    alphas = np.logspace(0, 4, 9)
    ours, theirs = (Ridge(alphas, backend=backend).fit(x, y) for backend in ("torch", "numpy"))
    assert ours.coef_.dtype == np.float32
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5 * np.abs(theirs.coef_).max())


def test_no_penalty_means_the_smallest_weights_that_fit_with_torch_too() -> None:
    x, y = problem(40, 6, 2, seed=5)
    x = np.concatenate((x, x[:, :2]), axis=1)
    x.setflags(write=False)
    model = Ridge([0.0, 1e-14], fit_intercept=False, backend="torch").fit(x, y)
    np.testing.assert_allclose(model.coef_.T, np.linalg.pinv(x) @ y, atol=1e-8)


def test_a_gpu_that_is_not_there_is_said_to_be_missing() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="backend='numpy'"):
        Ridge([1.0], backend="cuda").fit(np.eye(3), np.arange(3.0))


@pytest.mark.gpu
@pytest.mark.parametrize("n_features", [200, 3000])
def test_a_gpu_agrees_with_numpy(n_features: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    x, y = problem(1000, n_features, 64, seed=3, dtype=np.float32, mean=1)
    alphas = np.logspace(1, 5, 9)
    ours, theirs = (Ridge(alphas, backend=backend).fit(x, y) for backend in ("cuda", "numpy"))
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5 * np.abs(theirs.coef_).max())
