from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.sounds.midi import MidiSource, Note, read_notes, render_notes
from models.errors import FileError
from tests.data import shared

mido = pytest.importorskip("mido", reason="mido is not installed")


def _file(path: Path, notes: list[tuple[int, int, int]], *, program: int = 0) -> None:
    """Write notes (pitch, channel, beats), one after another, at 150 beats a minute."""
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(150)))
    track.append(mido.Message("program_change", program=program, channel=0))
    for pitch, channel, beats in notes:
        on = {"note": pitch, "velocity": 100, "channel": channel}
        track.append(mido.Message("note_on", **on))
        track.append(mido.Message("note_on", **{**on, "velocity": 0, "time": beats * 480}))
    file = mido.MidiFile()
    file.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save(path)


def test_notes_tempo_and_programmes_are_read(tmp_path: Path) -> None:
    _file(tmp_path / "a.mid", [(69, 0, 1), (71, 0, 2), (36, 9, 1)], program=73)
    notes, tempo_bpm = read_notes(tmp_path / "a.mid")
    assert tempo_bpm == pytest.approx(150.0)
    assert [(note.pitch, note.program) for note in notes] == [(69, 73), (71, 73), (36, -1)]
    assert [note.start_s for note in notes] == pytest.approx([0.0, 0.4, 1.2])
    assert notes[1].stop_s == pytest.approx(1.2)


@pytest.mark.parametrize("program", range(0, 128, 8))
def test_every_family_plays_the_pitch_that_is_written(program: int) -> None:
    note = Note(0.1, 0.9, 69, 100, program)
    wave = render_notes((note,), 16_000, np.random.default_rng(0))
    assert np.all(wave[:1_600] == 0.0)
    assert np.max(np.abs(wave)) <= 1.0
    spectrum = np.abs(np.fft.rfft(wave))
    partial = float(np.argmax(spectrum)) / 440.0
    assert abs(partial - round(partial)) < 0.02
    assert np.sum(spectrum[433:448] ** 2) > 0.01 * np.sum(spectrum**2)


def test_a_stretch_knows_its_pitch_tempo_density_and_instrument(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        _file(tmp_path / f"{name}.mid", [(60, 0, 1)] * 40, program=19)
    source = MidiSource(tmp_path, 0, 5, duration_s=4.0)
    for index in (0, 6):
        sound = source.sound(index)
        assert np.array_equal(sound.pcm, source.sound(index).pcm)
        assert sound.label == "organ"
        assert sound.factors.pitch_hz == pytest.approx(261.63, abs=0.01)
        assert sound.factors.tempo_bpm == pytest.approx(150.0)
        assert sound.factors.density_hz == pytest.approx(2.5, abs=0.3)
        assert -36.0 < sound.factors.loudness_dbfs < -16.0


def test_folders_are_classes(tmp_path: Path) -> None:
    for label in ("jig", "reel"):
        for name in ("a", "b"):
            _file(tmp_path / label / f"{name}.mid", [(60, 0, 1)] * 20)
    source = MidiSource(tmp_path, 0, 10, duration_s=1.0)
    assert {source.sound(i).label for i in range(10)} == {"jig", "reel"}


def test_a_file_that_is_no_midi_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_bytes(b"nothing")
    with pytest.raises(FileError, match="cannot be read as a MIDI file"):
        read_notes(tmp_path / "a.mid")
    _file(tmp_path / "b.mid", [])
    with pytest.raises(FileError, match="no notes"):
        read_notes(tmp_path / "b.mid")


@pytest.mark.data
def test_published_tunes_are_rendered() -> None:
    folder = shared("midi_nottingham")
    source = MidiSource(folder, 0, 10, duration_s=2.0)
    pcm = source.sound(0).pcm
    assert np.all(np.isfinite(pcm))
    assert np.sqrt(np.mean(pcm**2)) > 0.01
