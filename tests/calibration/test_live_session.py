from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.followed_response import EndlessNoise, FollowedResponse
from calibration.following_listener import FollowingSettings, make_sounds
from calibration.listener_bold import BoldListener
from calibration.listener_eeg import EEG_CHANNELS, EegListener
from calibration.live_recording import check_room, marker_text, session_place
from calibration.live_session import CalibrationAborted, LiveCalibration
from calibration.presentation import duration_text, load_programme, presentation_order
from calibration.presenter import Presentation, Presenter
from calibration.readers.events import marker_events
from calibration.readers.options import ReadOptions
from calibration.readers.stimuli import StimulusFiles
from calibration.stimuli import make_stimulus
from models.errors import FileError, SettingError
from stream.playback import Player
from stream.recordings import RecordedMarkers
from stream.source_info import SourceInfo

_RATE = 16_000
_BLOCK = 160


class Rig:
    """A presenter whose sink is this test: blocks are asked for when the test says so."""

    def __init__(self, lengths: list[int], *, gap_s: float = 0.05) -> None:
        rng = np.random.default_rng(1)
        self.sounds = [(0.1 + 0.1 * rng.random(n)).astype(np.float32) for n in lengths]
        self.player = Player(sample_rate_hz=_RATE, ceiling_dbfs=-1.0, max_queue_s=1e6)
        self.onsets: list[Presentation] = []
        self.ends: list[tuple[Presentation, bool]] = []
        self.presenter = Presenter(
            self.player,
            self.sounds,
            gap_s=gap_s,
            on_onset=self.onsets.append,
            on_end=lambda item, whole: self.ends.append((item, whole)),
        )
        self.now = 100.0
        self.out: list[NDArray[np.float32]] = []

    def render(self, seconds: float) -> None:
        """Ask for blocks."""
        for _ in range(round(seconds * _RATE / _BLOCK)):
            self.out.append(self.player.render_block(_BLOCK, self.now)[:, 0])
            self.now += _BLOCK / _RATE

    def play(self, seconds: float, *, step_s: float = 0.05) -> None:
        """Ask for blocks and let the presenter work in between."""
        for _ in range(round(seconds / step_s)):
            self.presenter.step()
            self.render(step_s)
        self.presenter.step()

    @property
    def whole(self) -> list[Presentation]:
        return [item for item, whole in self.ends if whole]

    def check_markers(self) -> None:
        """Every whole sound is in the output from its marker on, to the sample."""
        heard = np.concatenate(self.out)
        for item in self.whole:
            first = (item.onset - 100.0) * _RATE
            assert abs(first - round(first)) < 1e-4
            pcm = self.sounds[item.sound]
            got = heard[round(first) : round(first) + len(pcm)]
            np.testing.assert_allclose(got, pcm, atol=1e-6)
            assert heard[round(first) - 1] == 0.0
            assert item.duration_s == len(pcm) / _RATE == item.played_s


# -- order and sounds --------------------------------------------------------------------------


@given(n=st.integers(2, 12), repeats=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_each_block_holds_every_sound_once_and_none_follows_itself(
    n: int, repeats: int, seed: int
) -> None:
    blocks = presentation_order(n, repeats, seed=seed)
    assert len(blocks) == repeats
    assert all(sorted(block) == list(range(n)) for block in blocks)
    order = [k for block in blocks for k in block]
    assert all(a != b for a, b in pairwise(order))
    assert blocks == presentation_order(n, repeats, seed=seed)


def test_orders_of_three_sounds_are_equally_frequent() -> None:
    first = [presentation_order(3, 1, seed=seed)[0] for seed in range(1_200)]
    counts = [first.count(order) for order in sorted(set(first))]
    assert len(counts) == 6
    assert min(counts) > 140  # 200 expected, standard deviation 13


def test_a_folder_is_read_with_classes_from_its_folders_and_one_gain_for_all(
    tmp_path: Path,
) -> None:
    (tmp_path / "loud").mkdir()
    t = np.arange(44_100) / 44_100
    for name, size in (("loud/a.wav", 0.9), ("b.flac", 0.09)):
        soundfile.write(tmp_path / name, size * np.sin(2 * np.pi * 440 * t), 44_100)
    (tmp_path / ".c.wav").write_bytes(b"no sound, and hidden")
    programme = load_programme(tmp_path, ceiling_dbfs=-12.0)
    assert [s.id for s in programme.stimuli] == ["b.flac", "loud/a.wav"]
    assert [s.label for s in programme.stimuli] == ["", "loud"]
    assert programme.sample_rate_hz == 44_100
    assert programme.durations_s == (1.0, 1.0)
    peaks = [float(np.abs(pcm).max()) for pcm in programme.pcm]
    assert peaks[1] == pytest.approx(0.98 * 10 ** (-12 / 20), rel=1e-3)
    assert peaks[1] / peaks[0] == pytest.approx(10.0, rel=1e-3)
    assert programme.gain_db == pytest.approx(20 * np.log10(peaks[1] / 0.9), abs=0.01)
    files = StimulusFiles(tmp_path)  # what the recording is read with finds each of them
    assert all(files.stimulus(s.id).path == s.path for s in programme.stimuli)


def test_a_table_says_which_excerpt_is_played(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", 0.1 * rng.normal(size=48_000), 16_000)
    table = tmp_path / "stimuli.csv"
    table.write_text(
        "id,file,start_s,duration_s,label\nx,long.wav,0.5,1,noise\ny,long.wav,2,0.5,noise\n"
    )
    programme = load_programme(table, ceiling_dbfs=-1.0)
    assert [(s.id, s.label) for s in programme.stimuli] == [("x", "noise"), ("y", "noise")]
    assert programme.durations_s == (1.0, 0.5)


def test_stimuli_that_cannot_be_used_are_refused_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No stimuli at"):
        load_programme(tmp_path / "none", ceiling_dbfs=-12.0)
    with pytest.raises(FileError, match="no sound file"):
        load_programme(tmp_path, ceiling_dbfs=-12.0)
    make_sounds(tmp_path, n=1, duration_s=0.5)
    with pytest.raises(SettingError, match="at least two"):
        load_programme(tmp_path, ceiling_dbfs=-12.0)
    (tmp_path / "broken.wav").write_bytes(b"RIFF, but not really")
    with pytest.raises(FileError, match=r"broken\.wav cannot be read"):
        load_programme(tmp_path, ceiling_dbfs=-12.0)
    soundfile.write(tmp_path / "broken.wav", np.zeros(8_000), 16_000)
    with pytest.raises(SettingError, match="silent"):
        load_programme(tmp_path, ceiling_dbfs=-12.0)
    (tmp_path / "t.csv").write_text("id,file\na,\nb,\n")
    with pytest.raises(FileError, match="names no file"):
        load_programme(tmp_path / "t.csv", ceiling_dbfs=-12.0)


@pytest.mark.parametrize(
    "wrong", [{"repeats": 0}, {"gap_s": -1.0}, {"gap_s": float("nan")}, {"lead_s": 0.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="between"):
        LiveCalibration(stream="EEG", stimuli=Path("s"), out=Path("o"), **wrong)  # type: ignore[arg-type]


def test_lengths_are_told_in_minutes_and_seconds() -> None:
    assert duration_text(500.0) == "8 min 20 s"
    assert duration_text(59.4) == "59 s"
    assert duration_text(60.0) == "1 min 00 s"


# -- playing -----------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(900, 7_000), min_size=2, max_size=4),
    gap_s=st.sampled_from([0.0, 0.003, 0.05]),
    seed=st.integers(0, 99),
)
def test_a_marker_is_the_first_sample_that_is_heard(
    lengths: list[int], gap_s: float, seed: int
) -> None:
    rig = Rig(lengths, gap_s=gap_s)
    order = [k for block in presentation_order(len(lengths), 2, seed=seed) for k in block]
    rig.presenter.begin(order, lead_s=0.1, tail_s=0.2)
    rig.play(2.0 + sum(lengths) * 2 / _RATE + gap_s * 8)
    assert rig.presenter.finished
    assert [item.sound for item in rig.whole] == order
    for begun, ended in zip(rig.onsets, rig.whole, strict=True):
        assert ended.onset == pytest.approx(begun.onset, abs=1e-9)
    assert rig.player.statistics().underruns == 0
    heard = np.concatenate(rig.out)
    for item in rig.whole:
        first = (item.onset - 100.0) * _RATE
        pcm = rig.sounds[item.sound]
        np.testing.assert_allclose(heard[round(first) :][: len(pcm)], pcm, atol=1e-6)
        assert abs(first - round(first)) < 1e-4


def test_when_this_process_is_held_up_the_next_markers_are_later_and_no_sound_is_faded() -> None:
    rig = Rig([32_000, 24_000, 20_000, 3_000], gap_s=0.0)
    rig.presenter.begin([0, 1, 2, 3], lead_s=0.1, tail_s=0.1)
    rig.presenter.step()
    rig.render(9.0)  # more than was put in, and nobody puts in more
    rig.play(3.0)
    assert rig.player.statistics().underruns == 1
    assert [item.sound for item in rig.whole] == [0, 1, 2, 3]
    assert rig.whole[3].onset > 109.0
    assert rig.presenter.n_cut == 0
    rig.check_markers()


def test_a_device_that_stood_still_cuts_the_sound_and_the_next_markers_are_later() -> None:
    rig = Rig([8_000, 6_000, 7_000])
    rig.presenter.begin([0, 1, 2], lead_s=0.1, tail_s=0.1)
    rig.play(0.8)
    assert len(rig.onsets) == 2
    rig.player.interrupted(round(0.25 * _RATE))
    rig.out.append(np.zeros(round(0.25 * _RATE), np.float32))
    rig.now += 0.25
    rig.play(3.0)
    assert [(item.sound, whole) for item, whole in rig.ends] == [
        (0, True), (1, False), (2, True), (1, True),
    ]  # fmt: skip
    rig.check_markers()


def test_an_onset_that_a_device_told_badly_is_mended_by_what_it_tells_later() -> None:
    rig = Rig([16_000, 16_000])
    rig.presenter.begin([0, 1], lead_s=0.1, tail_s=0.1)
    error_s = 0.0
    for _ in range(260):
        rig.presenter.step()
        if len(rig.onsets) == 1 and len(rig.ends) == 1 and error_s == 0.0:
            error_s = 4e-3  # a jump in the silence before the second sound
        rig.now += error_s
        rig.render(0.01)
        rig.now -= error_s
        error_s *= 0.95
    first, second = rig.whole
    assert rig.onsets[1].onset - first.onset - 1.05 > 2.5e-3
    assert second.onset - first.onset == pytest.approx(1.05, abs=4e-4)


def test_a_pause_shifts_what_follows_and_the_interrupted_sound_comes_again() -> None:
    rig = Rig([8_000, 6_000, 7_000])
    rig.presenter.begin([0, 1, 2], lead_s=0.1, tail_s=0.1)
    rig.play(0.9)
    rig.presenter.pause()
    rig.play(1.5)
    assert not rig.presenter.finished
    assert np.all(np.concatenate(rig.out)[-round(1.3 * _RATE) :] == 0.0)
    rig.presenter.resume()
    rig.play(3.0)
    assert [(item.sound, whole) for item, whole in rig.ends] == [
        (0, True), (1, False), (1, True), (2, True),
    ]  # fmt: skip
    assert rig.presenter.finished
    assert rig.player.statistics().underruns == 0
    rig.check_markers()


def test_stop_ends_after_the_sound_that_is_heard() -> None:
    rig = Rig([8_000, 6_000, 7_000])
    rig.presenter.begin([0, 1, 2], lead_s=0.1, tail_s=0.1)
    rig.play(0.3)
    rig.presenter.stop()
    rig.play(2.0)
    assert rig.presenter.finished
    assert [(item.sound, whole) for item, whole in rig.ends] == [(0, True)]
    rig.check_markers()


def test_a_sound_that_never_comes_out_whole_is_given_up() -> None:
    rig = Rig([8_000, 1_000])
    rig.presenter.begin([0, 1], lead_s=0.1, tail_s=0.1)
    for _ in range(400):
        rig.presenter.step()
        rig.render(0.05)
        playing = rig.onsets and rig.onsets[-1].sound == 0 and rig.ends[-1:] == []
        last = rig.onsets[-1].trial if rig.onsets else -1
        ended = {item.trial for item, _ in rig.ends}
        if playing or (last >= 0 and last not in ended and rig.onsets[-1].sound == 0):
            rig.now += 0.05  # the clock of the device jumps in the middle of the long sound
    assert rig.presenter.finished
    assert rig.presenter.n_given_up == 1
    assert sum(item.sound == 0 for item, _ in rig.ends) == 3
    assert [item.sound for item in rig.whole] == [1]


# -- what is written ---------------------------------------------------------------------------


def test_markers_are_read_back_as_the_events_that_they_were(tmp_path: Path) -> None:
    make_sounds(tmp_path / "tone", n=3, duration_s=0.5)
    programme = load_programme(tmp_path, ceiling_dbfs=-12.0)
    played = [Presentation(k, k % 3, 10.0 + k, 0.5, 0.5) for k in range(5)]
    texts = tuple(marker_text(programme, item, run="run-01") for item in played)
    stamps = np.array([item.onset for item in played])
    events, stimuli = marker_events(
        RecordedMarkers("m", stamps, texts),
        ReadOptions(),
        StimulusFiles(tmp_path),
        start_s=0.0,
        stop_s=20.0,
    )
    assert [event.onset_s for event in events] == stamps.tolist()
    assert all(event.duration_s == 0.5 and event.label == "tone" for event in events)
    assert [event.stimulus for event in events] == [
        programme.stimuli[item.sound].id for item in played
    ]
    assert all(stimulus.path is not None for stimulus in stimuli.values())
    assert json.loads(texts[0])["gain_db"] == pytest.approx(programme.gain_db, abs=1e-5)


def test_a_session_is_never_overwritten_and_its_runs_say_whose_they_are(tmp_path: Path) -> None:
    first, second = session_place(tmp_path / "ana-b 2"), session_place(tmp_path / "ana-b 2")
    assert first.folder.name == "ana-b 2.session"
    assert second.folder.name == "ana-b 2.session-2"
    assert first.run(3).name == "sub-anab2_run-03"
    assert session_place(tmp_path / "deeper" / "sub-07").run(1).name == "sub-07_run-01"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match="cannot be made"):
        session_place(tmp_path / "file" / "me")


def test_a_session_that_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path) -> None:
    info = SourceInfo(
        name="EEG",
        type="EEG",
        n_channels=64,
        labels=tuple(f"E{k}" for k in range(64)),
        unit="V",
        scale=1.0,
        sfreq_hz=1_000.0,
        format="float32",
        source_id="",
        hostname="",
        uid="",
        counter_channel=None,
        counter_modulo=2,
        first_index=None,
        speed=1.0,
        recorded_sfreq_hz=1_000.0,
        bold=None,
        scales=None,
        desc_xml="",
    )
    check_room(tmp_path, info, 60.0)
    with pytest.raises(FileError, match="Make room"):
        check_room(tmp_path, info, 1e12)


def test_an_abort_leaves_with_its_own_exit_code() -> None:
    assert CalibrationAborted("x").exit_code == 4


# -- the listener who follows ------------------------------------------------------------------


def test_an_answer_that_is_streamed_is_that_to_the_whole_sequence() -> None:
    person = EegListener(1, 0.0)
    pcm = [make_stimulus("piano", 1, 0.8).pcm, make_stimulus("noise", 2, 0.5).pcm]
    onsets = [0.3, 1.9]
    whole = np.zeros(round(3.2 * _RATE), np.float32)
    response = FollowedResponse(
        lambda sound, n: person.respond(sound)[:n],
        sfreq_hz=person.sfreq_hz,
        n_channels=len(EEG_CHANNELS),
        kept_s=0.5,
    )
    taken = []
    for at in range(0, 800, 10):  # each sound becomes known just before it is due
        for sound, onset in zip(pcm, onsets, strict=True):
            if at <= round(onset * 250.0) - 10 < at + 10:
                response.hear(sound, onset)
                whole[round(onset * _RATE) :][: len(sound)] += sound
        taken.append(response.take(10))
    expected = person.respond(whole)
    got = np.concatenate(taken)
    assert response.n_heard == 2
    assert response.n_late == 0
    np.testing.assert_allclose(got[: len(expected)], expected, atol=1e-3 * np.abs(expected).max())


def test_an_onset_between_two_samples_is_kept_to_a_sixteenth_of_a_millisecond() -> None:
    person = EegListener(1, 0.0)
    pcm = make_stimulus("tone", 1, 0.5).pcm
    onset_s = 0.1 + 0.0013
    response = FollowedResponse(
        lambda sound, n: person.respond(sound)[:n],
        sfreq_hz=250.0,
        n_channels=len(EEG_CHANNELS),
        kept_s=0.5,
    )
    response.hear(pcm, onset_s)
    whole = np.zeros(round(1.2 * _RATE), np.float32)
    whole[round(onset_s * _RATE) :][: len(pcm)] = pcm
    expected = person.respond(whole)[:270]
    np.testing.assert_allclose(response.take(270), expected, atol=2e-3 * np.abs(expected).max())


def test_a_sound_that_was_stopped_or_told_late_is_answered_as_far_as_it_was_heard() -> None:
    response = FollowedResponse(
        lambda _sound, n: np.ones((n, 2)), sfreq_hz=100.0, n_channels=2, kept_s=0.0
    )
    response.take(50)
    response.hear(np.zeros(_RATE, np.float32), 0.2)
    assert response.n_late == 1
    response.stop(0.8)
    np.testing.assert_array_equal(response.take(50)[:, 0], np.repeat([1.0, 0.0], [30, 20]))


def test_volumes_follow_too() -> None:
    person = BoldListener(1, 0.0, tr_s=2.0)
    pcm = make_stimulus("rain", 1, 4.0).pcm
    response = FollowedResponse(
        person.respond, sfreq_hz=0.5, n_channels=person.n_voxels, kept_s=33.0
    )
    response.hear(pcm, 6.0)
    whole = np.concatenate([np.zeros(6 * _RATE, np.float32), pcm])
    expected = person.respond(whole, 20)
    np.testing.assert_allclose(response.take(20), expected, atol=1e-2 * np.abs(expected).max())


def test_endless_noise_has_the_variance_of_its_pieces_everywhere() -> None:
    def make(n: int, seed: int) -> NDArray[np.float64]:
        return np.random.default_rng(seed).standard_normal((n, 400))

    noise = EndlessNoise(make, n=100, join=20, seed=3)
    got = np.concatenate([noise.take(n) for n in (1, 79, 3, 200, 17)])
    assert got.shape == (300, 400)
    np.testing.assert_array_equal(got[:80], make(100, 3)[:80])
    assert np.all(np.abs(got.var(axis=1) - 1.0) < 0.35)
    assert abs(got.var() - 1.0) < 0.02


def test_a_listener_who_follows_needs_usable_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="modality"):
        FollowingSettings(stimuli=tmp_path, modality="meg")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="delay"):
        FollowingSettings(stimuli=tmp_path, delay_s=0.0)
