"""Semantic and coarse-to-fine bundles through the whole path, offline and over LSL."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from export.bundle import load_bundle
from export.generator_files import read_generator_card
from models.errors import SettingError
from models.stretch import cover
from stream.chain import open_chain
from stream.config import LiveSettings
from stream.live import run_live
from stream.live_session import LiveSession
from stream.messages import Command, FeatureWindow
from stream.monitor import Observer
from stream.offline import OfflineSettings, run_offline
from stream.summary import Summary
from tests.export.plain_generator import write_plain
from tests.integration.generated import (
    FRAME,
    HOP_S,
    KINDS,
    Kind,
    exported_generator,
    write_all,
)
from tests.integration.sessions import RATE_HZ, replayed, write_recording

FADE = 80
STEP_LIMIT = 10 ** (-50 / 20)
SECONDS = 5.0


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """Bundles around a generator of matrices."""
    home = tmp_path_factory.mktemp("plain")
    return write_all(home, write_plain(home / "generator"))


@pytest.fixture(scope="module")
def true_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """Bundles around exported networks."""
    home = tmp_path_factory.mktemp("exported")
    return write_all(home, exported_generator(home / "generator"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("noise") / "noise.csv", seconds=SECONDS)


def pcm_of(path: Path) -> NDArray[np.float64]:
    pcm, rate = soundfile.read(path)
    assert rate == RATE_HZ
    return np.asarray(pcm, np.float64)


def live_settings(bundle: Path, stream: str, **more: object) -> LiveSettings:
    values: dict[str, object] = {
        "bundle": bundle,
        "stream": stream,
        "sink": "null",
        "find_s": 30.0,
        "ended_after_s": 1.0,
        "outlets": False,
    }
    return LiveSettings(**(values | more))  # type: ignore[arg-type]


# -- offline -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_becomes_sound_of_its_own_length_without_a_hole(
    tmp_path: Path, bundles: dict[Kind, Path], kind: Kind
) -> None:
    offline_sound(tmp_path, bundles[kind], kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_sound_of_true_networks_is_continuous_where_stretches_join(
    tmp_path: Path, true_bundles: dict[Kind, Path], kind: Kind
) -> None:
    pcm, lengths = offline_sound(tmp_path, true_bundles[kind], kind)
    # A step would add its height to the second difference, wherever it stands. The sound begins
    # with the last hop of the first window, after what is kept back.
    start = round((0.5 - HOP_S[kind]) * RATE_HZ) + FADE
    joins = [start + FRAME * n for n in accumulate(lengths)][1:-2]
    bend = np.abs(np.diff(pcm, n=2))
    at_joins = np.array([bend[j - 3 : j + 2].max() for j in joins])
    inside = np.array([bend[j + 2 * FRAME - 3 : j + 2 * FRAME + 2].max() for j in joins])
    assert at_joins.max() <= bend[start + 4 * FRAME :].max()
    # Beside the same places of its networks' frames within the stretches.
    assert np.median(at_joins) <= 1.5 * np.median(inside) + STEP_LIMIT
    assert np.percentile(at_joins, 90) <= 1.5 * np.percentile(inside, 90) + STEP_LIMIT


def offline_sound(
    tmp_path: Path, bundle: Path, kind: Kind
) -> tuple[NDArray[np.float64], list[int]]:
    """Run 20 s offline and check what holds for every bundle; return sound and stretches."""
    spec = read_generator_card(bundle).spec
    seconds = 20.0
    recording = write_recording(tmp_path / "long.csv", seconds=seconds)
    summary = run_offline(OfflineSettings(bundle, recording, tmp_path / "a"))
    pcm = pcm_of(tmp_path / "a" / "played.wav")
    assert len(pcm) == seconds * RATE_HZ
    assert summary.windows == summary.decoded == 1 + round((seconds - 0.5) / HOP_S[kind])
    assert (summary.underruns, summary.stretches_invalid, summary.stage_errors) == (0, 0, {})
    assert summary.peak_dbfs <= -12.0
    assert np.abs(pcm).max() <= 10 ** (-12 / 20)
    assert summary.stretch_ms["p50"] is not None
    assert summary.renderer_delay_ms == pytest.approx(1e3 * (spec.delay_samples + FADE) / RATE_HZ)
    # The windows' sound begins with the first whole window and has no hole.
    sounding = pcm[int(np.flatnonzero(pcm)[0]) :]
    assert np.abs(sounding[: len(sounding) // 800 * 800].reshape(-1, 800)).max(axis=1).min() > 0
    # As many stretches as the windows need, none wasted.
    hop = round(HOP_S[kind] * RATE_HZ)
    lengths: list[int] = []
    for window in range(summary.decoded):
        carried = sum(lengths) * FRAME - hop * window
        lengths += cover(-(-(hop - carried) // FRAME), spec.stretches)[::-1]
    assert summary.stretches == len(lengths)
    return pcm, lengths


def test_the_same_recording_gives_the_same_sound_and_another_seed_another(
    tmp_path: Path, bundles: dict[Kind, Path], recording: Path
) -> None:
    runs = {"a": None, "b": None, "c": 6}
    for name, seed in runs.items():
        run_offline(OfflineSettings(bundles["semantic"], recording, tmp_path / name, seed=seed))
    sounds = {name: pcm_of(tmp_path / name / "played.wav") for name in runs}
    assert np.array_equal(sounds["a"], sounds["b"])
    assert not np.array_equal(sounds["a"], sounds["c"])
    assert json.loads((tmp_path / "c" / "settings.json").read_text())["seed"] == 6


@pytest.mark.slow
def test_the_strength_of_a_start_can_be_changed_where_there_is_one(
    tmp_path: Path, true_bundles: dict[Kind, Path], recording: Path
) -> None:
    started = true_bundles["semantic from a sound"]
    for name, strength in (("own", None), ("all", 1.0), ("none", 0.0)):
        run_offline(OfflineSettings(started, recording, tmp_path / name, strength=strength))
    sounds = [pcm_of(tmp_path / name / "played.wav") for name in ("own", "all", "none")]
    assert not np.array_equal(sounds[0], sounds[1])
    assert not np.array_equal(sounds[0], sounds[2])
    with pytest.raises(SettingError, match="no library"):
        run_offline(
            OfflineSettings(true_bundles["semantic"], recording, tmp_path / "no", strength=0.5)
        )


# -- the chain itself --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_decodes_all_that_its_generator_is_told(
    bundles: dict[Kind, Path], kind: Kind
) -> None:
    bundle = load_bundle(bundles[kind])
    chain = open_chain(bundle)
    parts = ["decoder", "generator"]
    assert sorted(chain.providers_of) == sorted(parts + ["acoustic"] * (kind == "coarse-to-fine"))
    assert set(chain.providers_of.values()) == {("CPUExecutionProvider",)}
    window = FeatureWindow(np.zeros(bundle.n_features, np.float32), 0, 0, 1, 0.0, 0.1)
    condition = chain.decode(window)
    assert np.linalg.norm(condition.values) == pytest.approx(1.0, abs=1e-5)
    if kind == "coarse-to-fine":
        assert condition.tokens is not None
        assert condition.tokens.shape == (16, 768)
        assert not condition.tokens.flags.writeable
    else:
        assert condition.tokens is None
    assert (condition.item >= 0) == (kind == "semantic from a sound")
    sounds = []
    for warm in (False, True):
        chain = open_chain(bundle)
        if warm:
            chain.warm_up(bundle.n_features)
        sounds.append(chain.renderer.render(condition, 4000))
    assert np.array_equal(sounds[0], sounds[1])


# -- live --------------------------------------------------------------------------------------


@pytest.mark.lsl
@pytest.mark.parametrize(
    "kind", [pytest.param(KINDS[1], marks=pytest.mark.slow), pytest.param(KINDS[2])]
)
def test_a_live_session_decides_and_sounds_as_the_offline_run(
    tmp_path: Path, bundles: dict[Kind, Path], recording: Path, kind: Kind
) -> None:
    offline = run_offline(OfflineSettings(bundles[kind], recording, tmp_path / "offline"))
    with replayed(recording) as replay:
        live = run_live(
            live_settings(
                bundles[kind],
                replay.stream,
                out=tmp_path / "live",
                sink=str(tmp_path / "sink.wav"),
            )
        )
    assert live.features_sha256 == offline.features_sha256
    assert live.windows == offline.windows
    assert live.decoded + live.skipped_windows == live.windows
    ours = np.load(tmp_path / "live" / "decisions.npy", allow_pickle=False)
    theirs = np.load(tmp_path / "offline" / "decisions.npy", allow_pickle=False)
    same = np.isin(theirs["seq"], ours["seq"])
    assert same.sum() == live.decoded > 5
    assert ours.tobytes() == theirs[same].tobytes()
    decoded = np.load(tmp_path / "live" / "decoded.npy", allow_pickle=False)
    assert np.array_equal(decoded, np.load(tmp_path / "offline" / "decoded.npy")[same])
    if not live.skipped_windows:
        assert live.decisions_sha256 == offline.decisions_sha256
    _check_sound(live, tmp_path)


def _check_sound(live: Summary, folder: Path) -> None:
    assert live.peak_dbfs <= -12.0
    assert (live.stretches_invalid, live.trace_mismatched, live.stage_errors) == (0, 0, {})
    assert live.stretches > 5
    assert {"decode", "sound", "playback"} <= live.stage_ms.keys()
    pcm = pcm_of(folder / "sink.wav")
    assert np.abs(pcm).max() <= 10 ** (-12 / 20)
    assert np.count_nonzero(pcm) / RATE_HZ > 1.0
    assert live.seconds_played > 1.0


class Operator(Observer):
    """Gives commands when certain windows are made."""

    def __init__(self, commands: dict[int, Command]) -> None:
        self._commands = commands
        self.session: LiveSession | None = None

    def on_window(self, window: FeatureWindow) -> None:
        command = self._commands.get(window.seq)
        if command is not None and self.session is not None:
            self.session.command(command)


@pytest.mark.lsl
def test_a_pause_is_silent_and_a_sound_of_the_library_can_be_the_target(
    tmp_path: Path, bundles: dict[Kind, Path]
) -> None:
    recording = write_recording(tmp_path / "noise.csv", seconds=6.0)
    operator = Operator(
        {
            5: Command("prompt", "440 Hz", "test"),
            6: Command("prompt", "violin", "test"),
            15: Command("pause", "", "test"),
            35: Command("resume", "", "test"),
        }
    )
    said: list[str] = []
    with replayed(recording) as replay:
        session = LiveSession(
            live_settings(
                bundles["semantic from a sound"],
                replay.stream,
                out=tmp_path / "live",
                sink=str(tmp_path / "sink.wav"),
            ),
            observers=[operator],
            on_message=said.append,
        )
        operator.session = session
        asyncio.run(session.run())
    assert any("violin" in sentence for sentence in said)
    assert not any("440" in sentence for sentence in said)
    sounding = np.flatnonzero(pcm_of(tmp_path / "sink.wav"))
    silence = np.diff(sounding).max() / RATE_HZ
    assert 1.0 < silence < 4.0
    assert (sounding[-1] - sounding[0]) / RATE_HZ > silence + 1.0


class Interrupt(Observer):
    """Sends this process SIGINT at a window."""

    def on_window(self, window: FeatureWindow) -> None:
        if window.seq == 20:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.lsl
def test_an_abort_ends_in_silence(tmp_path: Path, bundles: dict[Kind, Path]) -> None:
    recording = write_recording(tmp_path / "noise.csv", seconds=30.0)
    with replayed(recording) as replay:
        summary = run_live(
            live_settings(bundles["semantic"], replay.stream, sink=str(tmp_path / "sink.wav")),
            observers=[Interrupt()],
        )
    assert summary.aborted
    assert summary.windows < 60
    pcm = pcm_of(tmp_path / "sink.wav")
    assert np.abs(pcm[-4:]).max() < 1e-3  # faded out; the file may end with the fade
    assert np.abs(pcm).max() > 0.01
