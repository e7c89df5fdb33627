"""What a generator is told for each clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.generated.conditions import (
    as_given,
    as_vectors,
    clip_conditions,
    dealt_tokens,
)
from calibration.outer import Decoded


def _samples(clip: list[str], start_s: list[float], y: NDArray[np.float64]) -> Samples:
    n = len(clip)
    text = np.full(n, "")
    return Samples(
        x=np.zeros((n, 1, 1), np.float32),
        y=y,
        clip=np.array(clip),
        label=text,
        start_s=np.array(start_s),
        stop_s=np.array(start_s) + 1.0,
        person=text,
        session=text[:, None],
        run=text[:, None],
        previous_clip=text,
        order=np.arange(n, dtype=float),
    )


def test_the_training_mean_is_put_back_before_the_length_is_brought_to_one() -> None:
    rng = np.random.default_rng(0)
    raw, centre = rng.standard_normal((5, 8)), rng.standard_normal(8)
    whole = raw + centre
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(as_vectors(raw, centre), expected, rtol=1e-6)


def test_what_is_scored_is_what_the_generator_gets() -> None:
    rng = np.random.default_rng(1)
    raw, other = rng.standard_normal((4, 8)), rng.standard_normal((4, 8))
    centre = np.tile(rng.standard_normal(8), (4, 1))
    half = raw.copy()
    half[2] = np.nan  # a repetition that is missing
    samples = _samples(list("abcd"), [0.0] * 4, raw)
    decoded, shuffled = as_given(Decoded(samples, raw, centre, (half, raw)), [other])
    np.testing.assert_allclose(decoded.raw + centre, as_vectors(raw, centre), rtol=1e-6)
    np.testing.assert_allclose(shuffled[0] + centre, as_vectors(other, centre), rtol=1e-6)
    assert decoded.halves is not None
    assert np.isnan(decoded.halves[0][2]).all()
    assert np.isfinite(decoded.halves[0][[0, 1, 3]]).all()
    # Given again, nothing changes.
    again, _ = as_given(decoded)
    np.testing.assert_allclose(again.raw, decoded.raw, atol=1e-6)


def test_windows_of_a_clip_come_in_the_order_of_the_sound() -> None:
    vectors = np.eye(6, 8, dtype=np.float32)
    samples = _samples(list("abaabb"), [2.0, 0.0, 0.0, 1.0, 2.0, 1.0], np.zeros((6, 8)))
    tokens = np.arange(6, dtype=np.float32).reshape(6, 1, 1)
    a, b = clip_conditions(vectors, samples, ["a", "b"], each_s=1.0, tokens=tokens)
    assert a.tokens is not None
    assert b.tokens is not None
    assert a.tokens.ravel().tolist() == [2, 3, 0]
    assert b.tokens.ravel().tolist() == [1, 5, 4]
    np.testing.assert_allclose(b.vectors, vectors[[1, 5, 4]])
    np.testing.assert_allclose(a.mean, vectors[[0, 2, 3]].mean(axis=0))


def test_presentations_of_one_sound_are_averaged_place_by_place() -> None:
    vectors = np.eye(4, 8, dtype=np.float32)
    samples = _samples(list("aaaa"), [0.02, 0.5, 0.0, 0.51], np.zeros((4, 8)))
    (clip,) = clip_conditions(vectors, samples, ["a"], each_s=0.5)
    half = np.sqrt(0.5)
    expected = np.zeros((2, 8))
    expected[0, [0, 2]] = expected[1, [1, 3]] = half
    np.testing.assert_allclose(clip.vectors, expected, rtol=1e-6)


def test_dealt_tokens_are_those_of_another_clip_for_every_clip() -> None:
    clip = ["a"] * 3 + ["b"] * 2 + ["c"] * 4
    samples = _samples(clip, [0.0] * 9, np.zeros((9, 8)))
    tokens = np.repeat([0.0, 1.0, 2.0], [3, 2, 4]).astype(np.float32).reshape(9, 1, 1)
    for seed in range(5):
        dealt = dealt_tokens(tokens, samples, np.random.default_rng(seed))
        assert dealt is not None
        for name in "abc":
            rows = samples.clip == name
            assert len(np.unique(dealt[rows])) == 1
            assert dealt[rows][0, 0, 0] != tokens[rows][0, 0, 0]
    assert dealt_tokens(None, samples, np.random.default_rng(0)) is None
