"""Banded ridge: against himalaya and the formula, primal and dual."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.ridge.banded import BandedRidge, check_bands, simplex_candidates
from models.ridge.estimator import Ridge
from models.ridge.folds import group_folds

Array = NDArray[Any]


def make_data(
    seed: int, n: int, sizes: tuple[int, ...], n_targets: int
) -> tuple[Array, Array, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, sum(sizes))) + 0.5
    weights = rng.standard_normal((sum(sizes), n_targets))
    weights[sizes[0] :, : n_targets // 2] = 0  # half of the targets need the first band only
    y = x @ weights + 2 * rng.standard_normal((n, n_targets)) + 1.0
    edges = np.cumsum([0, *sizes])
    bands = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
    return x, y, bands


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(5, 40),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    intercept=st.booleans(),
)
def test_at_given_weights_it_equals_the_normal_equations(
    seed: int, n: int, sizes: list[int], intercept: bool
) -> None:
    x, y, bands = make_data(seed, n, tuple(sizes), 3)
    g = np.random.default_rng(seed).uniform(0.1, 2, len(sizes))
    model = BandedRidge(bands, [3.0], weights=g, fit_intercept=intercept).fit(x, y)
    penalty = np.diag(np.repeat(3.0 / g, sizes))
    m, m_y = (x.mean(axis=0), y.mean(axis=0)) if intercept else (np.zeros(x.shape[1]), np.zeros(3))
    w = np.linalg.solve((x - m).T @ (x - m) + penalty, (x - m).T @ (y - m_y))
    np.testing.assert_allclose(model.coef_.T, w, atol=1e-9 * np.abs(w).max())
    np.testing.assert_allclose(model.intercept_, m_y - m @ w, atol=1e-8)
    np.testing.assert_allclose(
        model.predict_bands(x).sum(axis=0) + model.intercept_, model.predict(x)
    )


@pytest.mark.parametrize("sizes", [(10, 15, 5), (150, 40, 60)], ids=["primal", "dual"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_it_equals_himalaya_at_the_same_candidates(sizes: tuple[int, ...], dtype: Any) -> None:
    ridge = pytest.importorskip("himalaya.ridge")
    x, y, bands = make_data(1, 100, sizes, 6)
    x, y = x.astype(dtype), y.astype(dtype)
    alphas = np.logspace(0, 3, 7)
    candidates = simplex_candidates(3, 9, rng=np.random.default_rng(2))
    candidates = np.maximum(candidates, 1e-3)  # himalaya takes logarithms
    candidates /= candidates.sum(axis=1, keepdims=True)
    ours = BandedRidge(bands, alphas, weights=candidates, metric="neg_mse").fit(x, y)
    from himalaya.scoring import l2_neg_loss

    theirs = ridge.GroupRidgeCV(
        groups=np.repeat(np.arange(3), sizes),
        fit_intercept=True,
        cv=5,
        solver_params={
            "n_iter": candidates.astype(dtype),
            "alphas": alphas.astype(dtype),
            "score_func": l2_neg_loss,
            "progress_bar": False,
            "local_alpha": True,
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises the kernel form
        theirs.fit(x, y)
    deltas = np.log(ours.band_weights_ / ours.alpha_[:, np.newaxis])  # type: ignore[index]
    np.testing.assert_allclose(deltas.T, theirs.deltas_, atol=1e-4)
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.coef_.T, theirs.coef_, atol=1e-5 * scale)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=2e-4)
    np.testing.assert_allclose(ours.cv_scores_, theirs.cv_scores_, rtol=1e-4)


def test_with_one_band_it_is_ridge() -> None:
    x, y, _ = make_data(3, 60, (20,), 4)
    groups = np.arange(60) // 3
    alphas = np.logspace(-1, 3, 9)
    banded = BandedRidge([slice(None)], alphas, keep_held_out=True).fit(x, y, groups=groups)
    plain = Ridge(alphas, keep_held_out=True).fit(x, y, groups=groups)
    np.testing.assert_allclose(banded.coef_, plain.coef_, atol=1e-10)
    np.testing.assert_array_equal(banded.alpha_, plain.alpha_)
    np.testing.assert_allclose(banded.held_out_, plain.held_out_, atol=1e-9)


def test_held_out_predictions_are_those_of_models_that_never_saw_the_rows() -> None:
    x, y, bands = make_data(4, 40, (8, 60), 2)
    model = BandedRidge(bands, [1.0, 30.0], n_candidates=6, cv=4, keep_held_out=True).fit(x, y)
    for train, test in group_folds(40, 4):
        for t in range(2):
            again = BandedRidge(
                bands, [float(np.ravel(model.alpha_)[t])], weights=model.band_weights_[t]
            ).fit(x[train], y[train, t])
            np.testing.assert_allclose(again.predict(x[test]), model.held_out_[test, t], atol=1e-8)


def test_the_search_repeats_and_turns_off_a_band_of_noise() -> None:
    rng = np.random.default_rng(5)
    signal, noise = rng.standard_normal((120, 10)), rng.standard_normal((120, 160))
    y = signal @ rng.standard_normal((10, 5)) + rng.standard_normal((120, 5))
    x = np.hstack([signal, noise])
    bands = {"signal": slice(0, 10), "noise": slice(10, None)}
    model = BandedRidge(bands, np.logspace(-1, 3, 5), n_candidates=12).fit(x, y)
    again = BandedRidge(bands, np.logspace(-1, 3, 5), n_candidates=12).fit(x, y)
    np.testing.assert_array_equal(model.coef_, again.coef_)
    assert (model.band_weights_[:, 0] > 0.95).all()
    plain = Ridge(np.logspace(-1, 3, 9), metric="r2").fit(x, y)
    assert model.cv_scores_.max(axis=0).mean() > plain.cv_scores_.max(axis=0).mean() + 0.1
    shared = BandedRidge(bands, np.logspace(-1, 3, 5), n_candidates=12, alpha_per_target=False).fit(
        x, y
    )
    assert len(np.unique(shared.alpha_)) == len(np.unique(shared.band_weights_, axis=0)) == 1


@given(n_bands=st.integers(2, 6), n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_candidates_lie_on_the_simplex(n_bands: int, n: int, seed: int) -> None:
    rows = simplex_candidates(n_bands, n, rng=np.random.default_rng(seed))
    assert rows.shape == (n, n_bands)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    assert (rows >= 0).all()


@pytest.mark.parametrize(
    ("bands", "options", "words"),
    [
        ([slice(0, 3)], {}, "in none"),
        ([slice(0, 6), slice(5, 10)], {}, "more than one"),
        ([slice(0, 10), []], {}, "at least one"),
        ([np.arange(11)], {}, "lacks"),
        ([slice(0, 10)], {"alphas": [-1.0]}, "alphas"),
        ([slice(0, 10)], {"weights": [[-1.0]]}, "weights"),
        ([slice(0, 5), slice(5, 10)], {"weights": [[1.0]]}, "weights"),
        ([slice(0, 5), slice(5, 10)], {"n_candidates": 0}, "n_candidates"),
    ],
)
def test_what_cannot_be_is_refused(bands: Any, options: dict[str, Any], words: str) -> None:
    x, y, _ = make_data(6, 20, (10,), 2)
    with pytest.raises(SettingError, match=words):
        BandedRidge(bands, **options).fit(x, y)
    with pytest.raises(SettingError, match="not fitted"):
        BandedRidge(bands).predict(x)


def test_bands_may_have_names() -> None:
    named = check_bands({"a": [0, 2], "b": slice(3, None), "c": 1}, 5)
    assert [list(band) for band in named] == [[0, 2], [3, 4], [1]]
