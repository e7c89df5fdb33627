"""Samples: repetitions stay a dimension, join and separate without changing what was heard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.data.samples import Samples, join_samples
from models.errors import SettingError


def _samples(n: int, reps: int, *, seed: int = 0, missing: float = 0.0) -> Samples:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, reps, 4)).astype(np.float32)
    gone = rng.random((n, reps)) < missing
    gone[:, 0] = False
    x[gone] = np.nan
    run = np.array([[f"run-{k}" for k in range(reps)] for _ in range(n)])
    run[gone] = ""
    return Samples(
        x=x,
        y=rng.standard_normal((n, 2)),
        clip=np.array([f"clip{k // 2}" for k in range(n)]),
        label=np.array(["a"] * n),
        start_s=np.arange(n, dtype=np.float64),
        stop_s=np.arange(1.0, n + 1.0),
        person=np.array(["p"] * n),
        session=np.where(gone, "", "ses-a"),
        run=run,
        previous_clip=np.array([""] * n),
        order=np.arange(n, dtype=np.float64),
    )


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_separate_rows_are_the_repetitions_that_there_are(n: int, reps: int, seed: int) -> None:
    made = _samples(n, reps, seed=seed, missing=0.4)
    rows = made.separate()
    assert len(rows) == made.n_repetitions.sum()
    assert rows.x.shape[1:] == (1, 4)
    assert np.isfinite(rows.x).all()
    assert (rows.run != "").all()
    for k in range(n):
        mine = rows.x[rows.start_s == k, 0]
        np.testing.assert_array_equal(mine, made.x[k][np.isfinite(made.x[k, :, 0])])
        np.testing.assert_allclose(mine.mean(axis=0), made.mean_x()[k], rtol=1e-5, atol=1e-6)


def test_a_whole_brain_that_was_heard_once_is_not_copied() -> None:
    made = _samples(5, 1)
    assert made.separate() is made
    assert np.shares_memory(made.mean_x(), made.x)


def test_without_features_the_repetitions_are_still_known() -> None:
    made = _samples(6, 3, missing=0.5, seed=2)
    thin = made.without_features()
    assert thin.x.shape == (6, 3, 1)
    assert not np.shares_memory(thin.x, made.x)  # else the brain would stay in memory
    np.testing.assert_array_equal(thin.n_repetitions, made.n_repetitions)


def test_parts_with_fewer_repetitions_are_filled_with_nothing() -> None:
    joined = join_samples([_samples(3, 1), _samples(2, 3)])
    assert joined.x.shape == (5, 3, 4)
    assert joined.n_repetitions.tolist() == [1, 1, 1, 3, 3]
    assert joined.run[0].tolist() == ["run-0", "", ""]
    assert joined.session[0].tolist() == ["ses-a", "", ""]
    assert joined.order[3] > joined.order[2] + 1e8


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(SettingError, match="as many rows"):
        replace(_samples(3, 1), clip=np.array(["a"]))
