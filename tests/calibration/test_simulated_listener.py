"""A calibration on a simulated listener comes to what is known of it; nothing is found in nothing.

The checks are those of `python -m benchmarks.honesty`, here with fewer seeds. Selection in noise,
leaks in 50 seeds, the ensemble of six regions of twelve, and a new person have tests where those
parts are tested.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.honesty_decoding import (
    SNRS,
    identification_follows_the_oracle,
    lag_is_recovered,
    lag_of_each_region_is_recovered,
    nothing_at_zero_snr,
    previous_clip_is_not_decoded,
    price_of_running_live,
    regions_are_found,
)
from benchmarks.honesty_figure import Figure, mean_and_error
from benchmarks.honesty_statistics import ceiling_has_no_bias, permutation_p_is_uniform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # of a busy machine


def assert_met(figures: Sequence[Figure]) -> None:
    """Every figure that has a bound keeps it."""
    assert any(figure.met is not None for figure in figures)
    assert [figure for figure in figures if figure.met is False] == []


def test_a_calibration_identifies_as_well_as_the_oracle_with_as_much_data() -> None:
    assert_met(identification_follows_the_oracle(8, snrs=SNRS[1::2]))


def test_brains_that_do_not_hear_are_identified_by_chance() -> None:
    assert_met(nothing_at_zero_snr(16))


def test_the_lag_of_each_brain_and_region_is_found_within_one_volume() -> None:
    assert_met(lag_is_recovered(1))
    assert_met(lag_of_each_region_is_recovered(2))


def test_the_ceiling_of_a_listener_is_estimated_without_bias() -> None:
    assert_met(ceiling_has_no_bias(8, snrs=(0.1, 0.5)))


def test_permutation_p_of_voxels_that_do_not_hear_is_uniform_by_blocks_only() -> None:
    assert_met(permutation_p_is_uniform())


def test_six_regions_of_thirty_are_found() -> None:
    assert_met(regions_are_found(2))


def test_the_clip_before_is_decoded_at_lag_0_and_not_at_the_fitted_lag() -> None:
    assert_met(previous_clip_is_not_decoded(4))


def test_what_runs_live_is_hardly_worse_than_hindsight() -> None:
    for figure in price_of_running_live(3, snrs=(0.1,)):
        gap = float(figure.found.split()[0])
        assert abs(gap) < 0.05


def test_a_figure_says_whether_its_bound_is_met() -> None:
    rows = [Figure("c", "w", "1", "b", met).row() for met in (True, False, None)]
    assert [row[""] for row in rows] == ["PASS", "short", ""]
    assert mean_and_error([1.0, 3.0]) == (2.0, 1.0)
