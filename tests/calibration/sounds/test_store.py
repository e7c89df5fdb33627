from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.sounds.blends import BlendSource
from calibration.sounds.procedural import CLASSES, SILENCE, ProceduralSource
from calibration.sounds.store import MEL, SoundStore, render_store
from models.errors import FileError, SettingError
from models.mel import log_mel


def test_a_sound_depends_on_seed_and_number_only() -> None:
    source = ProceduralSource(3, duration_s=0.6)
    forward = [source.sound(i).pcm for i in range(13)]
    assert all(np.array_equal(source.sound(i).pcm, forward[i]) for i in (12, 5, 0))
    assert not np.array_equal(ProceduralSource(4, duration_s=0.6).sound(0).pcm, forward[0])


def test_every_class_comes_in_turn_with_its_factors_and_words() -> None:
    source = ProceduralSource(0, duration_s=1.0)
    sounds = [source.sound(i) for i in range(len(CLASSES))]
    assert tuple(sound.label for sound in sounds) == CLASSES
    assert all(sound.caption for sound in sounds)
    for sound in sounds[:-1]:
        level = 10.0 * np.log10(np.mean(np.square(sound.pcm, dtype=np.float64)))
        assert sound.factors.loudness_dbfs == pytest.approx(level, abs=0.01)
    assert sounds[-1].label == SILENCE
    assert np.max(np.abs(sounds[-1].pcm)) < 1e-3


def test_a_blend_is_repeatable_finite_and_within_full_scale() -> None:
    source = BlendSource(0, duration_s=0.6)
    for index in range(6):
        pcm = source.sound(index).pcm
        assert np.array_equal(pcm, source.sound(index).pcm)
        assert np.all(np.isfinite(pcm))
        assert np.max(np.abs(pcm)) <= 1.0


def test_a_store_gives_back_what_was_rendered(tmp_path: Path) -> None:
    source = ProceduralSource(0, duration_s=0.64)
    store = render_store(source, tmp_path / "store", count=5, shard=2)
    sound = source.sound(3)
    assert len(store) == 5
    assert store.annotations[3].caption == sound.caption
    assert np.max(np.abs(store.pcm(3, 100, 500) - sound.pcm[100:600])) <= 0.51 / 32_767.0
    wanted = log_mel(store.pcm(3, 0, len(sound.pcm)), MEL)[10:30]
    assert np.max(np.abs(store.mel(3, 10, 20) - wanted)) <= 0.01  # float16 of up to 11.5


def test_rendering_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    source = ProceduralSource(0, duration_s=0.5)
    whole = render_store(source, tmp_path / "store", count=4, shard=2)
    before = whole.pcm(3, 0, 1000)
    (tmp_path / "store" / "0001.json").unlink()
    with pytest.raises(FileError, match="Render it again"):
        SoundStore(tmp_path / "store")
    seen: list[tuple[int, int]] = []
    again = render_store(
        source, tmp_path / "store", count=4, shard=2, progress=lambda *at: seen.append(at)
    )
    assert seen == [(4, 4)]
    assert np.array_equal(again.pcm(3, 0, 1000), before)


def test_opening_a_whole_store_writes_nothing(tmp_path: Path) -> None:
    # Another process may be reading it: two stages train side by side from the same sounds.
    source = ProceduralSource(0, duration_s=0.5)
    render_store(source, tmp_path, count=2)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    render_store(source, tmp_path, count=2)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_store_of_other_sounds_is_refused(tmp_path: Path) -> None:
    render_store(ProceduralSource(0, duration_s=0.5), tmp_path, count=1)
    with pytest.raises(FileError, match="other sounds"):
        render_store(ProceduralSource(1, duration_s=0.5), tmp_path, count=1)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(SettingError, match="classes from"):
        ProceduralSource(0, classes=("tuba",))
    with pytest.raises(SettingError, match="at least one sound"):
        render_store(ProceduralSource(0), Path("nowhere"), count=0)
