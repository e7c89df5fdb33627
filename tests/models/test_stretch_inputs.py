from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.nets.dit import frame_tokens as reference_frame_tokens
from models.stretch import GeneratorInput, GeneratorSpec
from models.stretch_inputs import (
    check_length,
    check_noise,
    check_state,
    frame_tokens,
    stretch_arrays,
    times,
)

SMALL = GeneratorSpec("small", "tiny", 4, (4, 8), 2, ("vector", "tokens"), startable=True)
SILENCE = np.full(32, 0.5, np.float32)


def _unit(seed: int = 0) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(512).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


def _tokens(steps: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((8 * steps, 768)).astype(np.float32)


def test_nothing_given_is_zeros_silence_and_all_from_noise() -> None:
    arrays = stretch_arrays(GeneratorInput(), SMALL, n_frames=4, silence=SILENCE)
    assert {k: v.shape for k, v in arrays.items()} == {
        "vector": (1, 512),
        "tokens": (1, 6, 768),
        "start": (1, 6, 32),
        "times": (5,),
    }
    assert not arrays["vector"].any()
    assert not arrays["tokens"].any()
    assert (arrays["start"] == 0.5).all()
    np.testing.assert_array_equal(arrays["times"], [0.0, 0.25, 0.5, 0.75, 1.0])
    assert all(value.dtype == np.float32 for value in arrays.values())


@given(steps=st.integers(1, 9), n_frames=st.integers(1, 40))
def test_tokens_become_frames_as_in_training_and_the_last_goes_on(
    steps: int, n_frames: int
) -> None:
    tokens = _tokens(steps)
    found = frame_tokens(tokens, n_frames)
    whole = reference_frame_tokens(torch.from_numpy(tokens)[None])[0].numpy()
    places = np.minimum(np.arange(n_frames), len(whole) - 1)
    np.testing.assert_allclose(found, whole[places], rtol=0, atol=1e-6)


def test_a_start_enters_the_sampler_where_its_strength_says() -> None:
    start = np.ones((10, 32), np.float32)
    some = GeneratorInput(start=start, strength=0.4)
    arrays = stretch_arrays(some, SMALL, n_frames=8, silence=SILENCE)
    np.testing.assert_array_equal(arrays["start"][0], start)
    np.testing.assert_allclose(arrays["times"], [0.6, 0.7, 0.8, 0.9, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(times(2, 0.0), [1.0, 1.0, 1.0])


def test_pooled_tokens_are_taken_and_others_pooled_to_eight() -> None:
    spec = replace(SMALL, family="audioldm2", conditions=("tokens",))
    pooled = _tokens(1)
    found = stretch_arrays(GeneratorInput(tokens=pooled), spec, n_frames=4, silence=SILENCE)
    np.testing.assert_array_equal(found["tokens"][0], pooled)
    many = _tokens(16)
    found = stretch_arrays(GeneratorInput(tokens=many), spec, n_frames=4, silence=SILENCE)
    pieces = many.reshape(8, 16, 768)
    expected = 0.5 * (pieces.mean(1) + pieces.max(1))
    np.testing.assert_allclose(found["tokens"][0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (GeneratorInput(vector=np.ones(511, np.float32)), r"\(512,\), got \(511,\)"),
        (GeneratorInput(vector=np.ones(512, np.float32)), "length 1"),
        (GeneratorInput(vector=np.full(512, np.nan, np.float32)), "length 1"),
        (GeneratorInput(tokens=np.ones((9, 768), np.float32)), r"\(8 n, 768\)"),
        (GeneratorInput(tokens=np.ones((0, 768), np.float32)), r"\(8 n, 768\)"),
        (GeneratorInput(tokens=np.full((8, 768), np.inf, np.float32)), "not finite"),
        (GeneratorInput(strength=0.5), "none is given"),
        (GeneratorInput(start=np.ones((4, 32), np.float32)), r"\(6, 32\)"),
        (GeneratorInput(start=np.ones((6, 32), np.float32), strength=1.5), "0 to 1"),
    ],
)
def test_wrong_conditions_are_refused(wrong: GeneratorInput, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        stretch_arrays(wrong, SMALL, n_frames=4, silence=SILENCE)


def test_what_a_family_does_not_take_or_needs_is_refused() -> None:
    music = replace(SMALL, family="musicldm", conditions=("vector",), startable=False)
    for given_, says in (
        (GeneratorInput(), "needs a vector"),
        (GeneratorInput(vector=_unit(), tokens=_tokens(1)), "given tokens"),
        (GeneratorInput(vector=_unit(), strength=0.5), "cannot begin"),
    ):
        with pytest.raises(SettingError, match=says):
            stretch_arrays(given_, music, n_frames=4, silence=SILENCE)
    speech = replace(SMALL, family="audioldm2-speech", conditions=("tokens",))
    with pytest.raises(SettingError, match="512 tokens"):
        stretch_arrays(GeneratorInput(tokens=_tokens(2)), speech, n_frames=4, silence=SILENCE)


def test_lengths_noises_and_states_of_others_are_refused() -> None:
    with pytest.raises(SettingError, match="stretches of 4, 8"):
        check_length(5, SMALL)
    with pytest.raises(SettingError, match=r"\(2, 3\), got \(3, 2\)"):
        check_noise(np.zeros((3, 2), np.float32), (2, 3))
    check_state({"a": np.zeros(2, np.float32)}, {"a": (2,)})
    for state in ({}, {"b": np.zeros(2, np.float32)}, {"a": np.zeros(3, np.float32)}):
        with pytest.raises(SettingError, match="another generator"):
            check_state(state, {"a": (2,)})
