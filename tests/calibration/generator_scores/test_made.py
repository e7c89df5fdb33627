"""Sounds made for scoring, and who scores them: networks of the true layout that learnt nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.generator_scores.makers import Make, decode, encode, make_streams, make_windows
from calibration.generator_scores.networks import Trained, open_trained, scores_folder
from calibration.generator_scores.real import RealSounds, real_sounds
from calibration.generator_scores.scorers import OnnxScorer, TorchScorer, mel_windows
from calibration.generator_scores.shards import scored_shards
from models.errors import FileError, SettingError
from models.nets.stretch import GeneratorNets, TorchGenerator
from tests.calibration.generator_scores.training_folder import write_training

_SHIPPED = Path(__file__).parents[3] / "calibration" / "generators" / "tiny"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return open_trained(write_training(tmp_path_factory.mktemp("training")))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> RealSounds:
    return real_sounds(tmp_path_factory.mktemp("real"), 3, duration_s=2.56)


def vectors(n: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(0).standard_normal((n, 512)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_a_run_without_its_last_stages_opens_without_them(tmp_path: Path) -> None:
    found = open_trained(write_training(tmp_path, vocoder=False, student=False))
    assert found.size == "tiny"
    assert found.vocoder is None
    assert found.student is None
    assert found.teacher is not None
    with pytest.raises(SettingError, match="student of this run is not trained"):
        make_windows(found, vectors(1), Make("student", 1), seed=0)
    with pytest.raises(FileError):
        open_trained(tmp_path / "nothing")


def test_an_exported_generator_opens_as_a_run_without_its_teacher() -> None:
    found = open_trained(_SHIPPED)
    assert found.teacher is None
    assert found.vocoder is not None
    assert found.student is not None
    sound = make_windows(found, vectors(1), Make("student", 1), seed=0)[0]
    assert float(np.abs(sound).max()) > 1e-3
    # Its files may lie where nothing is to be written.
    assert scores_folder(_SHIPPED) == Path("out/generator_scores")


def test_students_are_sampled_as_they_were_taught(tmp_path: Path) -> None:
    follows = open_trained(write_training(tmp_path / "secants"))
    jumps = open_trained(write_training(tmp_path / "consistency", method="consistency"))
    assert (follows.sampler, jumps.sampler) == ("secants", "ping_pong")
    for steps in (1, 2):
        make = Make("student", steps)
        one, other = (make_windows(each, vectors(1), make, seed=0)[0] for each in (follows, jumps))
        assert not np.allclose(one, other, atol=1e-3)


def test_scores_of_a_run_are_kept_beside_it(tmp_path: Path) -> None:
    assert scores_folder(tmp_path / "run") == tmp_path / "generator_scores"


def test_windows_depend_on_condition_and_seed_and_on_nothing_else(trained: Trained) -> None:
    asked = vectors(3)
    make = Make("student", 2)
    sounds = make_windows(trained, asked, make, seed=1)
    assert [sound.shape for sound in sounds] == [(40_960,)] * 3
    alone = make_windows(trained, asked[:1], make, seed=1)
    np.testing.assert_allclose(alone[0], sounds[0], atol=1e-4)
    assert not np.allclose(make_windows(trained, asked[:1], make, seed=2)[0], sounds[0], atol=1e-2)
    other = make_windows(trained, asked[1:2], make, seed=1)
    assert not np.allclose(other[0], sounds[0], atol=1e-3)


def test_little_strength_gives_back_the_sound_it_began_from(
    trained: Trained, real: RealSounds
) -> None:
    start = encode(trained, mel_windows([real.sound(0)]))
    assert start.shape == (1, 64, 32)
    make = Make("teacher", 2, guidance=1.0, strength=1e-4)
    made = make_windows(trained, vectors(1), make, seed=0, start=start)
    copy = decode(trained, start)
    assert np.linalg.norm(made[0] - copy[0]) < 0.05 * np.linalg.norm(copy[0])
    assert make.name == "teacher-2-g1-s0.0001"
    with pytest.raises(SettingError, match="give its latents"):
        make_windows(trained, vectors(1), make, seed=0)


def test_streams_are_as_long_as_windows_with_the_delay_taken_off(trained: Trained) -> None:
    assert trained.student is not None
    assert trained.vocoder is not None
    nets = GeneratorNets(trained.size, trained.codec, trained.student, trained.vocoder)
    generator = TorchGenerator(nets, steps=1, stretches=(16, 28), held=4)
    sounds = make_streams(generator, vectors(2), seed=0)
    assert [sound.shape for sound in sounds] == [(40_960,)] * 2
    assert np.isfinite(sounds).all()


def test_scores_do_not_depend_on_how_many_sounds_come_at_once(
    trained: Trained, real: RealSounds
) -> None:
    scorer = TorchScorer(trained)
    mel = mel_windows([real.sound(i) for i in range(3)])
    assert mel.shape == (3, 256, 64)
    together = scorer.judge(mel)
    assert together.vectors.shape == (3, 512)
    assert together.factors.shape == (3, 5)
    np.testing.assert_allclose(np.linalg.norm(together.vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(scorer.judge(mel[1:2]).vectors[0], together.vectors[1], atol=1e-5)
    assert not np.allclose(scorer.embed(mel), together.vectors, atol=1e-3)


def test_sounds_that_are_too_short_are_refused() -> None:
    with pytest.raises(SettingError, match="40960 samples"):
        mel_windows([np.zeros(1_000)])
    with pytest.raises(SettingError, match="multiple of 8"):
        mel_windows([np.zeros(1_000)], 5)


def test_a_folder_without_scorers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"encoder\.onnx"):
        OnnxScorer(tmp_path)


def test_shards_that_are_there_are_not_made_again(
    trained: Trained, real: RealSounds, tmp_path: Path
) -> None:
    asked: list[range] = []

    def make(rows: range) -> list[NDArray[np.float32]]:
        asked.append(rows)
        return [real.sound(i) for i in rows]

    scorer = TorchScorer(trained)
    first = scored_shards(tmp_path, "real", 3, make, scorer, measure=False, shard=2)
    assert asked == [range(0, 2), range(2, 3)]
    again = scored_shards(tmp_path, "real", 3, make, scorer, measure=False, shard=2)
    assert len(asked) == 2
    np.testing.assert_array_equal(first.judged, again.judged)
    assert len(first) == 3
    assert np.isnan(first.measured).all()
    (tmp_path / "real-00000-00002.npz").write_bytes(b"no shard")
    with pytest.raises(FileError, match="made again"):
        scored_shards(tmp_path, "real", 3, make, scorer, measure=False, shard=2)


def test_real_sounds_know_their_factors(real: RealSounds) -> None:
    assert len(real) == 3
    assert real.labels == ("tone", "chord", "piano")
    assert real.sound(0).shape == (40_960,)
    assert np.isfinite(real.factors["pitch"]).all()
