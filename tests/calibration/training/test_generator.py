"""What the generator learns from: windows that go on from sound, from silence, or from nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.training.generator import FRAMES, LENGTHS, draw_windows
from calibration.training.material import Material
from calibration.training.settings import GeneratorSettings
from models.nets.stretch import PREFIX
from tests.calibration.training.derived_run import derived_run

_OPTIONS = GeneratorSettings(switched=0.0, with_tokens=1.0)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return derived_run(tmp_path_factory.mktemp("run"))


def test_all_windows_of_a_batch_go_on_from_as_many_frames(material: Material) -> None:
    rng = np.random.default_rng(0)
    batches = [draw_windows(material, _OPTIONS, rng, 4) for _ in range(200)]
    whole = [each for each in batches if not each.known]
    assert len(whole) / len(batches) == pytest.approx(1.0 - _OPTIONS.prefixed, abs=0.1)
    assert {each.latents.shape[1] for each in whole} == {FRAMES}
    others = [each for each in batches if each.known]
    assert {each.known for each in others} == {PREFIX}
    assert {each.latents.shape[1] for each in others} == set(LENGTHS)


def test_streams_that_have_just_begun_knew_silence(material: Material) -> None:
    windows = draw_windows(material, _OPTIONS, np.random.default_rng(1), 2_000, known=PREFIX)
    silence = np.array(material.derived("silence"), np.float32)
    silent = (windows.latents.numpy() == silence).all(-1)
    assert not silent[:, PREFIX:].any()
    before = silent[:, :PREFIX].sum(1)
    # What is silent comes first.
    assert np.array_equal(silent[:, :PREFIX], np.arange(PREFIX) < before[:, None])
    assert np.mean(before == 0) == pytest.approx(0.6, abs=0.05)
    assert np.mean(before == PREFIX) == pytest.approx(0.2, abs=0.05)
    assert set(before.tolist()) == set(range(PREFIX + 1))


def test_a_switched_window_goes_on_from_another_sound_and_fades(material: Material) -> None:
    options = replace(_OPTIONS, switched=1.0)
    own, moved = (
        draw_windows(material, each, np.random.default_rng(2), 50, frames=LENGTHS[0], known=PREFIX)
        for each in (_OPTIONS, options)
    )
    assert np.array_equal(own.numbers, moved.numbers)
    apart = (own.latents - moved.latents).abs().amax(-1).numpy()
    assert np.all(apart[:, : PREFIX + 2] > 0.0)
    assert not apart[:, PREFIX + 2 :].any()


def test_tokens_are_given_for_the_frames_to_be_made(material: Material) -> None:
    for known in (0, PREFIX):
        windows = draw_windows(material, _OPTIONS, np.random.default_rng(3), 4, known=known)
        given = windows.tokens.abs().sum(-1) > 0
        assert not given[:, :known].any()
        assert given[:, known:].all()
