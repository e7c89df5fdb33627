"""Targets are made of exactly the stretch that was heard; files that cannot be used say why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import ArrayLike, NDArray

from calibration.data.dataset import Dataset, Event, Run, Stimulus
from calibration.embedders.base import WindowEmbedder
from calibration.embedders.cache import EmbeddingCache
from calibration.embedders.choice import make_embedder
from calibration.stimulus_sound import stimulus_sound
from calibration.targets import ClassTargets, EmbeddingTargets, MelTargets, class_targets
from models.errors import FileError, SettingError
from models.mel import MelSpec, log_mel

RATE = 16_000


def sound(seconds: float, seed: int = 0, rate: int = RATE) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (300 + 40 * t) * t) + 0.05 * rng.standard_normal(len(t))
    return wave.astype(np.float32)


def stimulus(folder: Path, seconds: float = 15.0, **values: Any) -> Stimulus:
    path = folder / "a.wav"
    soundfile.write(path, sound(seconds), RATE, subtype="FLOAT")
    return Stimulus("a", "tone", path, **values)


class Counting(WindowEmbedder):
    """Embeds a sound to its length and its first and last sample, and counts its calls."""

    name, dim, sample_rate_hz, licence, source = "counting", 3, RATE, "none", "here"

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[NDArray[np.float32]] = []

    def settings(self) -> dict[str, Any]:
        return {"name": self.name}

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        self.windows += [np.array(window) for window in windows]
        return np.array([[len(w), w[0], w[-1]] for w in windows], np.float64)


def test_an_excerpt_is_the_samples_between_its_start_and_its_end(tmp_path: Path) -> None:
    item = stimulus(tmp_path, start_s=2.5, duration_s=4.0)
    ours = stimulus_sound(item, sample_rate_hz=RATE)
    np.testing.assert_array_equal(ours, sound(15.0)[40_000:104_000])
    assert not ours.flags.writeable


def test_an_excerpt_at_another_rate_is_that_of_the_whole_file_converted(tmp_path: Path) -> None:
    import soxr

    path = tmp_path / "stereo.flac"
    left, right = sound(10.0, 1, 22_050), sound(10.0, 2, 22_050)
    soundfile.write(path, np.stack([left, right], axis=1), 22_050, subtype="PCM_24")
    ours = stimulus_sound(
        Stimulus("a", path=path, start_s=3.0, duration_s=5.0), sample_rate_hz=16_000
    )
    whole = soxr.resample((left + right) / 2, 22_050, 16_000, "HQ")
    assert len(ours) == 80_000
    np.testing.assert_allclose(ours, whole[48_000:128_000], atol=1e-4)


def test_a_file_a_little_shorter_than_its_timetable_is_taken_as_it_is(tmp_path: Path) -> None:
    item = stimulus(tmp_path, 14.99, duration_s=15.0)
    assert len(stimulus_sound(item, sample_rate_hz=RATE)) == round(14.99 * RATE)


def test_files_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    def read(item: Stimulus) -> None:
        stimulus_sound(item, sample_rate_hz=RATE)

    with pytest.raises(FileError, match="no sound file for stimulus 'x'"):
        read(Stimulus("x"))
    with pytest.raises(FileError, match="missing"):
        read(Stimulus("x", path=tmp_path / "not.wav"))
    with pytest.raises(FileError, match=r"from 14 s on for 4 s, but a.wav has 15 s"):
        read(stimulus(tmp_path, start_s=14.0, duration_s=4.0))
    with pytest.raises(FileError, match="from 20 s on"):
        read(stimulus(tmp_path, start_s=20.0))
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF, but no sound" * 40)
    with pytest.raises(FileError, match=r"broken.wav cannot be read"):
        read(Stimulus("x", path=broken))
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0), RATE)
    with pytest.raises(FileError, match="0 s"):
        read(Stimulus("x", path=empty))
    cut = tmp_path / "cut.flac"
    soundfile.write(cut, sound(10.0), RATE)
    cut.write_bytes(cut.read_bytes()[:60_000])
    with pytest.raises(FileError):
        read(Stimulus("x", path=cut))
    holes = tmp_path / "holes.wav"
    wave = sound(1.0)
    wave[5] = np.nan
    soundfile.write(holes, wave, RATE, subtype="FLOAT")
    with pytest.raises(FileError, match="not finite"):
        read(Stimulus("x", path=holes))


def test_the_embedding_is_that_of_exactly_the_stretch(tmp_path: Path) -> None:
    embedder = make_embedder("log-mel")
    source = EmbeddingTargets({"a": stimulus(tmp_path)}, embedder)
    rows = source.targets(["a", "a", "a"], [0.0, 3.0, 0.0], [4.5, 7.5, 4.5])
    wave = sound(15.0)
    for row, (first, last) in zip(rows, [(0, 4.5), (3, 7.5), (0, 4.5)], strict=True):
        expected = embedder.embed(wave[round(first * RATE) : round(last * RATE)], RATE)
        np.testing.assert_allclose(row, expected, atol=1e-6)
    assert source.dim == embedder.dim == rows.shape[1]


def test_each_stretch_is_embedded_once_and_a_clip_whatever_the_stretch(tmp_path: Path) -> None:
    stimuli = {"a": stimulus(tmp_path)}
    embedder = Counting()
    source = EmbeddingTargets(stimuli, embedder)
    source.targets(["a"] * 4, [0, 1, 0, 1], [2, 3, 2, 3])
    source.targets(["a"], [1.0000001], [3.0])
    assert len(embedder.windows) == 2
    whole = EmbeddingTargets(stimuli, embedder, stretch="clip")
    rows = whole.targets(["a"] * 3, [0, 1, 2], [2, 3, 4])
    assert len(embedder.windows) == 3
    assert len(embedder.windows[-1]) == 15 * RATE
    np.testing.assert_array_equal(rows[0], rows[2])


def test_a_short_stretch_is_repeated_to_the_shortest_length(tmp_path: Path) -> None:
    embedder = Counting()
    source = EmbeddingTargets({"a": stimulus(tmp_path)}, embedder, min_s=2.0)
    source.targets(["a", "a"], [1.0, 4.0], [1.75, 7.0])
    short = next(w for w in embedder.windows if len(w) == 2 * RATE)
    piece = sound(15.0)[RATE : round(1.75 * RATE)]
    np.testing.assert_array_equal(short, np.tile(piece, 3)[: 2 * RATE])
    assert any(len(w) == 3 * RATE for w in embedder.windows)


def test_embeddings_come_from_the_cache_the_second_time(tmp_path: Path) -> None:
    stimuli = {"a": stimulus(tmp_path)}
    first, second = Counting(), Counting()
    cache = EmbeddingCache(tmp_path / "cache")
    for stretch in ("window", "clip"):
        rows = [
            EmbeddingTargets(stimuli, e, stretch=stretch, cache=cache).targets(
                ["a", "a"], [0.0, 3.0], [2.0, 5.0]
            )
            for e in (first, second)
        ]
        np.testing.assert_array_equal(rows[0], rows[1])
    assert len(first.windows) == 3
    assert not second.windows


def test_a_stretch_beyond_the_sound_is_refused(tmp_path: Path) -> None:
    stimuli = {"a": stimulus(tmp_path, 14.99)}
    source = EmbeddingTargets(stimuli, Counting())
    source.targets(["a"], [13.5], [15.0])  # the file is 10 ms shorter than its timetable
    with pytest.raises(SettingError, match=r"ends 20 s into it, but its sound has 14.99 s"):
        source.targets(["a"], [18.0], [20.0])
    with pytest.raises(FileError, match="'b'"):
        source.targets(["b"], [0.0], [1.0])


@pytest.mark.parametrize("n", [1, 150])
def test_mel_frames_are_those_up_to_the_end_of_the_stretch(tmp_path: Path, n: int) -> None:
    mel = MelSpec()
    source = MelTargets({"a": stimulus(tmp_path)}, mel, frames_per_window=n, floor=-7.0)
    rows = source.targets(["a", "a"], [0.0, 2.25], [1.5, 3.75])
    frames = np.maximum(log_mel(sound(15.0), mel), -7.0)
    assert source.dim == n * 64 == rows.shape[1]
    np.testing.assert_allclose(rows[0].reshape(n, 64), frames[150 - n : 150], atol=1e-5)
    np.testing.assert_allclose(rows[1].reshape(n, 64), frames[375 - n : 375], atol=1e-5)
    with pytest.raises(SettingError, match="begin before"):
        MelTargets({"a": stimulus(tmp_path)}, mel, frames_per_window=200).targets(["a"], [0], [1.5])


def class_dataset() -> Dataset:
    stimuli = {"s1": Stimulus("s1", "face"), "s2": Stimulus("s2", "house"), "cat": Stimulus("cat")}
    events = tuple(Event(k * 10.0, 10.0, name) for k, name in enumerate(stimuli))
    run = Run(
        "1", "", "1", "", np.zeros((9, 2), np.float32), 0.5, np.linspace(0.0, 16.0, 9), events
    )
    return Dataset(Path("x"), "bids", "bold", (), (run,), stimuli)


def test_classes_become_one_hot_rows_in_alphabetical_order() -> None:
    source = class_targets(class_dataset(), "1")
    assert source.classes == ("cat", "face", "house")
    rows = source.targets(["s2", "cat", "s1"], np.zeros(3), np.ones(3))
    np.testing.assert_array_equal(rows, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])


def test_classes_may_have_any_vectors() -> None:
    names: dict[str, ArrayLike] = {"face": [1.0, 2.0], "house": [0.5, 0.0]}
    source = ClassTargets(class_dataset().stimuli, names)
    assert source.dim == 2
    np.testing.assert_array_equal(source.targets(["s1"], [0.0], [1.0]), [[1.0, 2.0]])
    assert source.targets([], [], []).shape == (0, 2)
    with pytest.raises(SettingError, match=r"'cat'.*\['face', 'house'\]"):
        source.targets(["cat"], [0.0], [1.0])
    for bad in ({}, {"face": [1.0], "house": [1.0, 2.0]}, {"face": 1.0}):
        with pytest.raises(SettingError, match="same length"):
            ClassTargets({}, bad)
