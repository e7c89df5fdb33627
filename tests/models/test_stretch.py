from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingError
from models.stretch import GeneratorSpec, cover

SETS = st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True).map(
    lambda lengths: tuple(sorted(lengths))
)


@given(n=st.integers(-2, 24), stretches=SETS)
def test_a_cover_has_least_to_spare_and_then_the_fewest_stretches(
    n: int, stretches: tuple[int, ...]
) -> None:
    found = cover(n, stretches)
    assert list(found) == sorted(found, reverse=True)
    if n <= 0:
        assert found == ()
        return
    every = (
        chosen
        for count in range(1, n + 1)
        for chosen in combinations_with_replacement(stretches, count)
        if n <= sum(chosen) < n + stretches[0]
    )
    best = min((sum(chosen), len(chosen)) for chosen in every) if n <= 8 else None
    assert n <= sum(found) < n + stretches[0]
    if best is not None:
        assert (sum(found), len(found)) == best


@given(n=st.integers(1, 300), stretches=SETS)
def test_what_the_last_one_leaves_is_covered_by_the_others(
    n: int, stretches: tuple[int, ...]
) -> None:
    *others, last = cover(n, stretches)
    assert cover(n - last, stretches) == tuple(others)


def test_lengths_that_do_not_divide_each_other_leave_nothing_over_where_they_can() -> None:
    assert cover(8, (4, 6)) == (4, 4)
    assert cover(11, (4, 6)) == (6, 6)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"held": -1}, {"stretches": (8, 4)}])
def test_a_generator_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {
        "family": "small", "size": "tiny", "steps": 1, "stretches": (4, 8), "held": 4,
        "conditions": ("vector",), "startable": False,
    }  # fmt: skip
    with pytest.raises(SettingError, match="rising lengths"):
        GeneratorSpec(**(good | wrong))  # type: ignore[arg-type]
