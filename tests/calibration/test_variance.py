"""Variance partitioning: recovers what a simulation put in, and always adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.variance import commonalities, product_measure, variance_partition
from models.errors import SettingError

Array = NDArray[Any]


def simulate(
    seed: int, n: int, shares: tuple[float, float, float], n_targets: int
) -> tuple[Array, Array, dict[str, slice]]:
    """Two groups of 6 features, each with 3 of its own and 3 that both have, differently mixed.

    Returns targets whose variance is unique to the first, unique to the second and common by
    `shares`; the rest is noise.
    """
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((3, n, 3))  # own of one, own of two, common
    first = np.hstack([sources[0], sources[2]]) @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    second = np.hstack([sources[1], sources[2]]) @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    y = np.sqrt(1 - sum(shares)) * rng.standard_normal((n, n_targets))
    for source, share in zip(sources, shares, strict=True):
        mix = rng.standard_normal((3, n_targets))
        y += np.sqrt(share) * source @ (mix / np.linalg.norm(mix, axis=0))
    return np.hstack([first, second]), y, {"one": slice(0, 6), "two": slice(6, 12)}


def test_simulated_unique_variances_are_recovered() -> None:
    shares = (0.25, 0.10, 0.15)
    x, y, bands = simulate(0, 3000, shares, 20)
    groups = np.arange(3000) // 10
    found = variance_partition(
        x, y, bands=bands, groups=groups, cv=3, inner_cv=2, alphas=np.logspace(-1, 3, 4),
        n_candidates=5,
    )  # fmt: skip
    assert found.unique("one").mean() == pytest.approx(shares[0], abs=0.02)
    assert found.unique("two").mean() == pytest.approx(shares[1], abs=0.02)
    assert found.shared().mean() == pytest.approx(shares[2], abs=0.02)
    assert found.shares[("one", "two")] == pytest.approx(found.shared())
    for subset in found.r2:
        assert (found.union >= found.r2[subset] - 0.01).all()
    np.testing.assert_allclose(sum(found.shares.values()), found.union, atol=1e-12)
    np.testing.assert_allclose(sum(found.product.values()), found.union, atol=1e-12)
    # What is common falls to both.
    assert shares[0] < found.product["one"].mean() < shares[0] + shares[2]


def test_a_group_without_information_has_no_share() -> None:
    rng = np.random.default_rng(1)
    x, y, _ = simulate(1, 600, (0.5, 0.0, 0.0), 10)
    x = np.hstack([x[:, :6], rng.standard_normal((600, 40)), rng.standard_normal((600, 3))])
    bands = {"signal": slice(0, 6), "noise": slice(6, 46), "little": slice(46, 49)}
    found = variance_partition(
        x, y, bands=bands, cv=3, inner_cv=3, alphas=np.logspace(0, 4, 5), n_candidates=6
    )
    assert found.unique("noise").mean() == pytest.approx(0, abs=0.02)
    assert found.unique("signal").mean() == pytest.approx(0.5, abs=0.06)
    assert len(found.shares) == 7
    np.testing.assert_allclose(sum(found.shares.values()), found.union, atol=1e-12)
    assert found.product["noise"].mean() == pytest.approx(0, abs=0.03)


@settings(max_examples=30)
@given(n_names=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_shares_sum_to_the_union_and_unique_ones_are_differences(n_names: int, seed: int) -> None:
    from itertools import combinations

    rng = np.random.default_rng(seed)
    names = tuple("abcde"[:n_names])
    r2 = {s: rng.uniform(size=4) for k in range(1, n_names + 1) for s in combinations(names, k)}
    shares = commonalities(names, r2)
    np.testing.assert_allclose(sum(shares.values()), r2[names], atol=1e-12)
    for name in names:
        others = tuple(other for other in names if other != name)
        expected = r2[names] - (r2[others] if others else 0)
        np.testing.assert_allclose(shares[(name,)], expected, atol=1e-12)
        with_it = [value for subset, value in shares.items() if name in subset]
        np.testing.assert_allclose(np.sum(with_it, axis=0), r2[(name,)], atol=1e-12)


def test_the_product_measure_equals_himalayas_on_centred_data() -> None:
    scoring = pytest.importorskip("himalaya.scoring")
    rng = np.random.default_rng(2)
    truth, parts = rng.standard_normal((50, 3)), rng.standard_normal((2, 50, 3))
    truth -= truth.mean(axis=0)
    ours = product_measure(truth, parts, parts.sum(axis=0))
    np.testing.assert_allclose(ours, scoring.r2_score_split(truth, parts), atol=1e-10)


def test_more_groups_than_can_be_fitted_are_refused() -> None:
    x, y, _ = simulate(3, 30, (0.1, 0.1, 0.1), 2)
    with pytest.raises(SettingError, match="1 to 6"):
        variance_partition(x, y, bands={str(i): [i] for i in range(7)})
    with pytest.raises(SettingError, match="in none"):
        variance_partition(x, y, bands={"a": slice(0, 3)})
