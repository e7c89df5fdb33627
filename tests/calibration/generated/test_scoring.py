"""Scores of generated sound, with a renderer and a judge whose every answer is known."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from calibration.embedders.base import WindowEmbedder
from calibration.generated.conditions import ClipConditions
from calibration.generated.render import nowhere, render_conditions
from calibration.generated.scores import score_vectors
from calibration.generated.scoring import HeldOut, SoundScoring, score_generated
from calibration.generated.start_library import StartLibrary
from export.library import LibrarySound
from models.errors import SettingError
from stream.messages import Condition
from stream.render import Renderer

_RATE = 16_000
_N = 12
_HZ = 300.0 + 200.0 * np.arange(_N)


def _tone(k: int, seconds: float) -> NDArray[np.float32]:
    t = np.arange(round(seconds * _RATE)) / _RATE
    return np.asarray(0.2 * np.sin(2 * np.pi * _HZ[k] * t), np.float32)


def _vector(k: int) -> NDArray[np.float32]:
    """Neighbouring tones are alike, so that everything has a rank."""
    row = np.zeros(512, np.float32)
    row[:_N] = np.exp(-0.5 * (np.arange(_N) - k) ** 2)
    return row / np.linalg.norm(row)


class Tones:
    """Plays the tone that a vector names, and the library's sound below strength .5."""

    sample_rate_hz = _RATE
    n_channels = 1
    delay_s = 0.01

    def __init__(self, seed: int, library: StartLibrary | None, strength: float) -> None:
        self.seed, self.library, self.strength = seed, library, strength
        self.asked: list[tuple[int, int]] = []

    def render(self, condition: Condition, n_samples: int) -> NDArray[np.float32]:
        self.asked.append((condition.window.seq, n_samples))
        if self.library is not None and self.strength < 0.5:
            pcm = self.library.sounds[condition.item].pcm
        else:
            pcm = _tone(int(np.argmax(condition.values)), 1.0)
        return np.asarray(np.tile(pcm, -(-n_samples // len(pcm)))[:n_samples])

    def reset(self) -> None:
        raise AssertionError("every clip has a renderer of its own")


class Pitch(WindowEmbedder):
    """Says which tone it hears; the loudest bin of the spectrum, as a vector like the others."""

    name, dim, sample_rate_hz, licence, source = "pitch", 512, _RATE, "", ""

    def settings(self) -> dict[str, object]:
        return {}

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        rows = []
        for window in windows:
            spectrum = np.abs(np.fft.rfft(window))
            hz = np.argmax(spectrum) * _RATE / len(window)
            rows.append(_vector(int(np.argmin(np.abs(_HZ - hz)))))
        return np.array(rows, np.float64)


def _clips(order: ArrayLike) -> tuple[ClipConditions, ...]:
    return tuple(
        ClipConditions(f"clip{k:02d}", np.tile(_vector(int(tone)), (4, 1)))
        for k, tone in enumerate(np.asarray(order))
    )


def _held(order: ArrayLike, *, shuffled: Sequence[ArrayLike] = ()) -> HeldOut:
    return HeldOut(
        decoded=_clips(order),
        shuffled=tuple(_clips(other) for other in shuffled),
        heard=tuple(_tone(k, 3.0) for k in range(_N)),
        meant=np.array([_vector(k) for k in range(_N)], np.float64),
        each_s=0.75,
        without={f"clip{k:02d}": {f"clip{k:02d}"} for k in range(_N)},
    )


def _library() -> StartLibrary:
    names = [f"clip{k:02d}" for k in range(_N)]
    return StartLibrary(
        tuple(LibrarySound(name, _tone(k, 1.0)) for k, name in enumerate(names)),
        np.array([_vector(k) for k in range(_N)]),
        tuple(np.zeros((25, 32), np.float32) for _ in names),
    )


def _score(held: HeldOut, library: StartLibrary | None = None, **options: object):  # type: ignore[no-untyped-def]
    return score_generated(
        held,
        chain="semantic",
        generator="tones",
        renderer=lambda seed, start, strength: Tones(seed, start, strength),
        judge=Pitch(),
        library=library,
        options=SoundScoring(n_permutations=400, most_s=3.0, **options),  # type: ignore[arg-type]
    )


def test_what_is_decoded_rightly_is_told_by_its_sound_and_a_shuffled_brain_is_not() -> None:
    rng = np.random.default_rng(3)
    scores = _score(
        _held(range(_N), shuffled=[rng.permutation(_N) for _ in range(8)]), n_shuffled=8
    )
    direct, true, shuffled = (scores.row(way) for way in ("direct", "true", "shuffled"))
    assert direct is not None
    assert true is not None
    assert shuffled is not None
    assert direct.identification == true.identification == direct.top_1 == 1.0
    assert direct.permutation_p is not None
    assert direct.permutation_p < 0.01
    assert abs(shuffled.identification - 0.5) < 0.15
    assert shuffled.permutation_p is None
    assert scores.row("started") is None
    assert scores.started is None


def test_wrong_conditions_give_the_score_that_the_ranks_say() -> None:
    # Each clip is decoded as its neighbour: the own tone is the second or third best.
    scores = _score(_held(np.roll(np.arange(_N), 1)))
    dealt = scores.row("shuffled")  # no decoder of a shuffled brain was given
    assert dealt is not None
    assert abs(dealt.identification - 0.5) < 0.1
    assert any("other clips" in note for note in scores.notes)
    direct, embedding = scores.row("direct"), scores.row("embedding")
    assert direct is not None
    assert embedding is not None
    assert direct.identification == pytest.approx(embedding.identification, abs=1e-9)
    assert 0.7 < direct.identification < 1.0
    assert direct.top_1 < 0.2


def test_a_held_out_clip_never_begins_from_itself_or_its_companions() -> None:
    held = _held(range(_N))
    companions = HeldOut(
        held.decoded, (), held.heard, held.meant, held.each_s,
        {name: held.names for name in held.names[:6]} | {name: () for name in held.names[6:]},
    )  # fmt: skip
    library = _library()
    with pytest.raises(SettingError, match="No sound of the library is left"):
        _score(companions, library, strengths=(0.4,))
    scores = _score(held, library, strengths=(0.4, 0.8))
    retrieved, low = scores.row("retrieved"), scores.row("started", 0.4)
    high = scores.row("started", 0.8)
    assert retrieved is not None
    assert low is not None
    assert high is not None
    assert low.identification == pytest.approx(retrieved.identification)
    assert low.top_1 < 0.2  # its own sound is not there to be found
    assert high.identification == 1.0
    assert scores.started == low  # the one that was set, not the best


def test_what_is_printed_last_is_json_and_says_each_control() -> None:
    scores = _score(_held(range(_N), shuffled=[range(_N)]), _library(), strengths=(0.8,))
    line = json.loads(json.dumps(scores.line(), allow_nan=False))
    assert line["sound_identification"] == line["sound_identification_started"] == 1.0
    assert set(line) == {
        "sound_identification",
        "sound_permutation_p",
        "sound_identification_started",
        "sound_started_strength",
        "sound_floor_shuffled",
        "sound_ceiling",
        "sound_identification_embedding",
    }
    rows = json.loads(json.dumps(scores.to_json(), allow_nan=False))["rows"]
    assert [row["way"] for row in rows] == [
        "embedding", "direct", "started", "retrieved", "shuffled", "shuffled", "true",
    ]  # fmt: skip
    assert all(row["told"] for row in rows)


def test_conditions_follow_each_other_without_the_delay_and_the_last_goes_on() -> None:
    renderer = Tones(0, None, 1.0)
    assert isinstance(renderer, Renderer)
    conditions = [Condition(_vector(k), nowhere(k)) for k in (2, 5)]
    pcm = render_conditions(renderer, conditions, each_s=0.5, least_s=2.56)
    assert renderer.asked == [(2, 8_000), (5, 40_960 + 160 - 8_000)]
    assert len(pcm) == 40_960
    with pytest.raises(SettingError, match="at least one condition"):
        render_conditions(renderer, [], each_s=0.5)


def test_too_few_clips_are_refused() -> None:
    vectors = np.eye(2, 512)
    with pytest.raises(SettingError, match="at least 3 clips"):
        score_vectors(vectors, vectors, way="direct")
