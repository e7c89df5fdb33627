from __future__ import annotations

import numpy as np
import pytest

from calibration.acoustic.crossfit import out_of_fold
from models.errors import SettingError
from models.ridge.estimator import Ridge


def test_what_was_decoded_of_a_group_does_not_depend_on_its_targets() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 8)), rng.standard_normal((60, 3)) + 2.0
    groups = np.repeat(np.arange(10), 6)
    before = out_of_fold(x, y, groups, lambda: Ridge([1.0, 10.0], cv=3))
    y2 = y.copy()
    y2[groups == 4] += 5.0
    after = out_of_fold(x, y2, groups, lambda: Ridge([1.0, 10.0], cv=3))
    np.testing.assert_array_equal(before[groups == 4], after[groups == 4])
    assert np.abs(before - after).max() > 0
    assert np.isfinite(before).all()


def test_noise_is_decoded_well_in_sample_and_not_out_of_fold() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((50, 100)), rng.standard_normal((50, 20))
    groups = np.repeat(np.arange(10), 5)
    out = out_of_fold(x, y, groups, lambda: Ridge([1.0], cv=3))
    inside = np.asarray(Ridge([1.0], cv=3).fit(x, y, groups=groups).predict(x))
    assert np.corrcoef(inside.ravel(), y.ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(out.ravel(), y.ravel())[0, 1]) < 0.15


def test_two_groups_are_too_few() -> None:
    with pytest.raises(SettingError, match="3 clips"):
        out_of_fold(np.ones((4, 2)), np.ones((4, 2)), np.array([0, 0, 1, 1]), lambda: Ridge([1.0]))
