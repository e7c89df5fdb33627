"""A filled gap lies on the line between its ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingError
from models.gapfill import fill_linear


@given(n=st.integers(0, 200), a=st.floats(-1, 1, width=32), b=st.floats(-1, 1, width=32))
def test_a_filled_gap_lies_on_the_line(n: int, a: float, b: float) -> None:
    filled = fill_linear([a, 0.1], [b, 0.1], n)
    assert filled.shape == (n, 2)
    assert filled.dtype == np.float32
    expected = np.interp(np.arange(1, n + 1), [0, n + 1], [a, b])
    np.testing.assert_allclose(filled[:, 0], expected, atol=1e-6)
    assert np.all(filled[:, 1] == np.float32(0.1))


def test_unequal_samples_and_negative_gaps_are_refused() -> None:
    with pytest.raises(SettingError, match="same channels"):
        fill_linear([0.0], [0.0, 1.0], 3)
    with pytest.raises(SettingError, match="0 or more"):
        fill_linear([0.0], [1.0], -1)
