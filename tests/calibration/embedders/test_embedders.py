"""What all embedders promise, each as the real class, with random weights where it has some."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.embedders.base import Embedder, TextEmbedder, at_rate, even_starts
from calibration.embedders.choice import embedder_names, make_embedder
from calibration.embedding import MelStatistics
from calibration.stimuli import LABELS, make_stimulus
from models.errors import SettingError
from models.mel import MelSpec, log_mel

RATE = 16_000
NAMES = [name for name in embedder_names() if ":" not in name]
SOUND = (0.1 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32)


@pytest.fixture(scope="module", params=NAMES)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return make_embedder(request.param)


def test_a_sound_becomes_a_unit_vector_that_is_always_the_same(embedder: Embedder) -> None:
    rows = [embedder.embed(SOUND, RATE), make_embedder(NAMES[NAMES.index(_kind(embedder))]).embed(
        SOUND, RATE
    )]  # fmt: skip
    assert rows[0].shape == (embedder.dim,)
    assert rows[0].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows[0]), 1.0, atol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[1])


def test_windows_are_exactly_the_stretches_that_were_asked_for(embedder: Embedder) -> None:
    rate = embedder.sample_rate_hz
    sound = at_rate(SOUND, RATE, rate)
    starts, stops = [0.0, 0.4, 1.5], [1.0, 1.4, 3.0]
    rows = embedder.embed_windows(sound, rate, starts, stops)
    assert rows.shape == (3, embedder.dim)
    for row, start, stop in zip(rows, starts, stops, strict=True):
        alone = embedder.embed(sound[round(start * rate) : round(stop * rate)], rate)
        np.testing.assert_allclose(row, alone, atol=2e-6)
    assert embedder.embed_windows(sound, rate, [], []).shape == (0, embedder.dim)


def test_the_batch_changes_nothing(embedder: Embedder) -> None:
    starts = np.arange(5) * 0.5
    rows = [
        make_embedder(_kind(embedder), batch_size=size).embed_windows(
            SOUND, RATE, starts, starts + 0.6
        )
        for size in (1, 3)
    ]
    np.testing.assert_allclose(rows[0], rows[1], atol=2e-6)


def test_different_sounds_have_different_vectors(embedder: Embedder) -> None:
    rows = np.stack(
        [embedder.embed(make_stimulus(label, 0, 1.0).pcm, RATE) for label in LABELS[:6]]
    )
    cosines = rows @ rows.T
    assert cosines[~np.eye(6, dtype=bool)].max() < 0.9999


def test_the_settings_are_json_and_the_user_can_read_where_it_is_from(embedder: Embedder) -> None:
    import json

    assert json.loads(json.dumps(embedder.settings())) == embedder.settings()
    assert embedder.licence
    assert embedder.source
    if "small" in _kind(embedder):
        assert "random" in embedder.name
        assert "random" in embedder.source


def test_sound_at_another_rate_gives_nearly_the_same(embedder: Embedder) -> None:
    import soxr

    pcm = make_stimulus("piano", 1, 2.0).pcm
    faster = soxr.resample(pcm, RATE, 44_100, "VHQ")
    assert float(embedder.embed(pcm, RATE) @ embedder.embed(faster, 44_100)) > 0.99


@pytest.mark.parametrize(("start", "stop"), [(-0.1, 1), (2, 1), (1, 1), (0, 3.2)])
def test_a_window_outside_the_sound_is_refused(
    embedder: Embedder, start: float, stop: float
) -> None:
    with pytest.raises(SettingError, match="does not lie"):
        embedder.embed_windows(SOUND, RATE, [start], [stop])


def test_sound_that_cannot_be_embedded_is_refused_in_words(embedder: Embedder) -> None:
    for pcm in (np.zeros((2, RATE)), np.zeros(0), np.full(RATE, np.nan)):
        with pytest.raises(SettingError, match="mono"):
            embedder.embed(pcm, RATE)


def _kind(embedder: Embedder) -> str:
    for name in NAMES:
        if embedder.name.startswith(name):
            return name
    raise AssertionError(embedder.name)


def test_a_clip_a_little_shorter_than_its_timetable_is_taken_whole() -> None:
    embedder = make_embedder("log-mel")
    clip = SOUND[: round(14.99 / 15 * len(SOUND))]
    np.testing.assert_array_equal(
        embedder.embed_windows(clip, RATE, [0], [3])[0], embedder.embed(clip, RATE)
    )


def test_mel_statistics_are_those_of_the_demo() -> None:
    sounds = [make_stimulus(label, 3, 1.0).pcm for label in LABELS]
    ours = make_embedder("mel-statistics", sounds=sounds)
    theirs = MelStatistics.fit(sounds)
    np.testing.assert_allclose(ours.embed(SOUND, RATE), theirs.embed(SOUND), atol=1e-7)


def test_log_mel_is_the_mean_over_the_parts_of_the_window() -> None:
    mel = np.maximum(log_mel(SOUND, MelSpec()) + 8.0, 0.0) + 1e-3
    half = (len(mel) + 1) // 2
    for n_parts, expected in (
        (1, mel.mean(axis=0)),
        (2, np.concatenate([mel[:half].mean(axis=0), mel[half:].mean(axis=0)])),
    ):
        row = make_embedder("log-mel", n_parts=n_parts).embed(SOUND, RATE)
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-6)
    silent = make_embedder("log-mel").embed(np.zeros(RATE), RATE)
    np.testing.assert_allclose(silent, 1 / 8.0)


def test_only_clap_embeds_texts() -> None:
    texts = [name for name in NAMES if isinstance(make_embedder(name), TextEmbedder)]
    assert texts == ["clap-small-random"]


@given(n=st.integers(1, 100_000), length=st.integers(1, 20_000))
def test_even_windows_cover_a_sound_from_its_beginning_to_its_end(n: int, length: int) -> None:
    starts = even_starts(n, length)
    assert starts[0] == 0
    assert len(starts) == max(1, -(-n // length))
    covered: NDArray[np.bool_] = np.zeros(n, np.bool_)
    for start in starts.tolist():
        assert 0 <= start <= max(0, n - length)
        covered[start : start + length] = True
    assert covered.all()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("klap:somewhere", "Did you mean 'clap'"),
        ("mulan", "There are mel-statistics, log-mel, clap:"),
        ("clap", "Say where its weights are"),
        ("clap:", "Say where its weights are"),
        ("log-mel:folder", "is written 'log-mel'"),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_those_that_do(spec: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make_embedder(spec)


def test_an_option_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(SettingError, match="It has n_parts, batch_size"):
        make_embedder("log-mel", parts=3)
    with pytest.raises(SettingError, match="last_blocks, download, device, batch_size"):
        make_embedder("audiomae:nowhere", layers=3)


def test_without_torch_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for spec in ("clap:x", "hubert:x", "wav2vec2:x", "audiomae:x", "clap-small-random"):
        with pytest.raises(SettingError, match=r"pip install 'hearback\[train\]'"):
            make_embedder(spec)


def test_leave_to_download_is_given_in_vain_where_there_are_no_weights() -> None:
    assert make_embedder("log-mel", download=True).dim == 64


def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(SettingError, match="Choose cpu"):
        make_embedder("audiomae-small-random", device="abacus")
