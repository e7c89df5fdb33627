"""A folder of sound files becomes a library whose embeddings are those of what it plays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from calibration.embedders.cache import EmbeddingCache
from calibration.embedders.choice import make_embedder
from calibration.library_builder import library_from_folder
from calibration.stimuli import make_stimulus
from export.bundle import save_bundle
from export.library import Library
from models.errors import FileError, SettingError
from tests.export.bundles import DIM, RATE, retrieval_parts

EMBEDDER = make_embedder("log-mel")


def write(path: Path, label: str, seconds: float, *, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = make_stimulus(label, 0, seconds).pcm
    if rate != 16_000:
        pcm = soxr.resample(pcm, 16_000, rate)
    sound = np.stack([pcm, 0.5 * pcm], axis=1) if path.suffix == ".wav" else pcm
    soundfile.write(path, sound, rate)
    return path


def test_files_of_any_kind_become_sounds_with_the_names_of_their_folders(tmp_path: Path) -> None:
    write(tmp_path / "music" / "a.wav", "piano", 1.0)
    write(tmp_path / "music" / "b.flac", "flute", 2.5, rate=22_050)
    write(tmp_path / "nature" / "c.ogg", "rain", 1.0, rate=48_000)
    write(tmp_path / "d.mp3", "drums", 1.5, rate=44_100)
    (tmp_path / "notes.txt").write_text("not a sound")
    write(tmp_path / ".hidden" / "e.wav", "noise", 1.0)
    done: list[tuple[int, int]] = []
    library = library_from_folder(
        tmp_path, EMBEDDER, window_s=2.0, progress=lambda n, of: done.append((n, of))
    )
    assert [(sound.name, sound.label) for sound in library.sounds] == [
        ("d.mp3", ""),
        ("music/a.wav", "music"),
        ("music/b.flac+0.0s", "music"),
        ("music/b.flac+0.5s", "music"),
        ("nature/c.ogg", "nature"),
    ]
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert library.warnings == ()
    assert library.embedder == "log-mel-64"
    for sound, row in zip(library.sounds, library.embeddings, strict=True):
        np.testing.assert_array_equal(row, EMBEDDER.embed(sound.pcm, 16_000))
    expected = 0.75 * make_stimulus("piano", 0, 1.0).pcm
    np.testing.assert_allclose(library.sounds[1].pcm, expected, atol=4e-5)


def test_a_library_goes_into_a_bundle_and_finds_its_own_sounds(tmp_path: Path) -> None:
    for label in ("piano", "rain", "speech", "drums", "engine"):
        write(tmp_path / "in" / label / "x.flac", label, 1.0)
    built = library_from_folder(tmp_path / "in", EMBEDDER, sample_rate_hz=RATE)
    parts = retrieval_parts()
    # The bundle of the tests has embeddings of another length: its first dimensions will do.
    cut = built.embeddings[:, :DIM] - built.embeddings[:, :DIM].mean(axis=0)
    files = replace(built, embeddings=cut).files()
    bundle = save_bundle(tmp_path / "b", parts.manifest, {**parts.files, **files})
    library = Library(bundle)
    assert library.search == "flat"
    for i, row in enumerate(cut):
        assert library.nearest(row)[0][0] == i
        np.testing.assert_allclose(library.sound(i), built.sounds[i].pcm, atol=1e-4)


def test_a_table_chooses_files_excerpts_labels_and_captions(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", "piano", 3.0)
    write(tmp_path / "b.wav", "rain", 1.0)
    (tmp_path / "sounds.tsv").write_text(
        "file\tlabel\tcaption\tstart_s\tduration_s\n"
        "a.wav\tmusic\tA slow melody.\t0.5\t1.0\n"
        "a.wav\tmusic\t\t1.5\tn/a\n"
    )
    library = library_from_folder(tmp_path, EMBEDDER)
    assert [sound.name for sound in library.sounds] == ["a.wav@0.5s", "a.wav@1.5s"]
    assert library.captions == ("A slow melody.", "")
    assert [len(sound.pcm) for sound in library.sounds] == [16_000, 24_000]
    whole = 0.75 * make_stimulus("piano", 0, 3.0).pcm
    np.testing.assert_allclose(library.sounds[0].pcm, whole[8_000:24_000], atol=4e-5)


def test_only_the_first_windows_of_a_file_are_taken_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "a.flac", "piano", 3.0)
    library = library_from_folder(tmp_path, EMBEDDER, window_s=0.5, windows_per_file=2)
    assert [sound.name for sound in library.sounds] == ["a.flac+0.0s", "a.flac+0.5s"]


def test_files_that_cannot_be_used_are_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path / "good.wav", "piano", 1.0)
    (tmp_path / "broken.wav").write_bytes(b"RIFFnothing")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "short.wav", np.ones(20) * 0.1, 16_000)
    library = library_from_folder(tmp_path, EMBEDDER)
    assert [sound.name for sound in library.sounds] == ["good.wav"]
    assert [text.split(" ")[0] for text in library.warnings] == [
        "broken.wav",
        "short.wav",
        "silent.wav",
    ]
    (tmp_path / "good.wav").unlink()
    with pytest.raises(FileError, match="None of the 3 sound files"):
        library_from_folder(tmp_path, EMBEDDER)


def test_loud_sounds_are_not_clipped(tmp_path: Path) -> None:
    pcm = 1.5 * make_stimulus("tone", 0, 1.0).pcm / np.abs(make_stimulus("tone", 0, 1.0).pcm).max()
    soundfile.write(tmp_path / "loud.wav", pcm, 16_000, subtype="FLOAT")
    sound = library_from_folder(tmp_path, EMBEDDER).sounds[0]
    np.testing.assert_allclose(sound.pcm, pcm * (0.999 / 1.5), atol=1e-5)


def test_a_second_run_reads_the_embeddings_from_the_cache(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.wav", "piano", 2.0)
    for hits in (0, 2):
        cache = EmbeddingCache(tmp_path / "cache")
        library_from_folder(tmp_path / "in", EMBEDDER, window_s=1.0, cache=cache)
        assert cache.n_hits == hits


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name\tlabel\na.wav\tx\n", "named file"),
        ("file\n../a.wav\n", "not a file in this folder"),
        ("file\tstart_s\na.wav\tsoon\n", "'soon' is not a time"),
        ("file\tstart_s\na.wav\t-1\n", "'-1' is not a time"),
        ("file\nnothere.wav\n", "None of the 1"),
        ("", "named file"),
    ],
)
def test_a_table_that_is_not_usable_is_refused(table: str, words: str, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", "piano", 1.0)
    (tmp_path / "sounds.tsv").write_text(table)
    with pytest.raises(FileError, match=words):
        library_from_folder(tmp_path, EMBEDDER)


def test_folders_and_numbers_that_are_not_usable_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not a folder"):
        library_from_folder(tmp_path / "nowhere", EMBEDDER)
    with pytest.raises(FileError, match="no sound file"):
        library_from_folder(tmp_path, EMBEDDER)
    for numbers in ({"window_s": 0.0}, {"windows_per_file": 0}):
        with pytest.raises(SettingError, match="needs windows"):
            library_from_folder(tmp_path, EMBEDDER, **numbers)
