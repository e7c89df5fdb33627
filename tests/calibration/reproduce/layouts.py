"""Miniature data sets of the true layouts, with brains that answer to their sounds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.calibration.readers.layouts import AFFINE, GENRES, events_text, write_image
from tests.calibration.tiny_runs import hrf

__all__ = ["N_BANDS", "REGIONS", "eeg_songs", "music", "natural_sounds", "noise_bands", "stories"]

RATE_HZ = 16_000
N_BANDS = 8
N_VOLUMES = 410
REGIONS = {1: "heschl", 2: "planum", 3: "calcarine"}
_TR_S = 1.5


def noise_bands(gains: NDArray[np.float64], seconds: float, seed: int) -> NDArray[np.float64]:
    """Return noise whose octave-like bands have these levels (natural logarithm of amplitude)."""
    n = round(seconds * RATE_HZ)
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.normal(size=n))
    frequency = np.fft.rfftfreq(n, 1 / RATE_HZ)
    edges = np.geomspace(80.0, 8000.0, N_BANDS + 1)
    band = np.clip(np.searchsorted(edges, frequency) - 1, 0, N_BANDS - 1)
    wave = np.fft.irfft(spectrum * np.exp(gains[band]), n)
    return np.asarray(0.2 * wave / np.abs(wave).max())


def music(
    root: Path, *, n_runs: tuple[int, int] = (2, 2), noise: float = 1.0, n_people: int = 1
) -> tuple[Path, Path]:
    """Write one person of ds003720 with few runs, its tracks, and a label image of regions.

    Voxels of the regions `heschl` and `planum` answer to the levels of the sound's bands through
    a haemodynamic response; those of `calcarine` do not.
    """
    import soundfile

    rng = np.random.default_rng(0)
    people = [f"sub-{k + 1:03d}" for k in range(n_people)]
    genres = root / "genres"
    for name in people:
        (root / "ds003720" / name / "func").mkdir(parents=True)
    (root / "ds003720" / "dataset_description.json").write_text('{"Name": "Music Genre fMRI"}')
    centres = rng.normal(0, 0.7, (len(GENRES), N_BANDS))
    clips: dict[int, NDArray[np.float64]] = {}

    def clip(number: int) -> int:
        if number not in clips:
            genre, track = number % 10, number // 10
            clips[number] = centres[genre] + rng.normal(0, 0.7, N_BANDS)
            path = genres / GENRES[genre] / f"{GENRES[genre]}.{track:05d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            wave = noise_bands(clips[number], 15.0, number)
            soundfile.write(path, wave, RATE_HZ, subtype="PCM_16")
        return number

    weights = {name: rng.normal(size=(N_BANDS, 40)) for name in people}
    labels = np.zeros((3, 7, 2), np.int16)
    labels.reshape(-1)[:40] = np.repeat([1, 2, 3], [15, 15, 10])
    response = np.maximum(hrf(5.0), 0)[:: round(_TR_S / 0.25)]
    response = response / response.sum()
    order = [("Training", k) for k in range(n_runs[0])] + [("Test", k) for k in range(n_runs[1])]
    for part, k in order:
        if part == "Training":
            own = [clip(40 * k + j) for j in range(40)]
            before = 40 * ((k - 1) % n_runs[0]) + 39
        else:
            cycle = [clip(40 * n_runs[0] + 10 * k + int(j)) for j in rng.permutation(10)]
            own, before = cycle * 4, cycle[-1]
        heard = [clip(before), *own]
        rows = [
            (15 * j, 15, f"'{GENRES[c % 10]}'", c // 10, "0", "15") for j, c in enumerate(heard)
        ]
        text = events_text("onset duration genre track start end", rows)
        levels = np.repeat(np.array([clips[c] for c in heard]), 10, axis=0)
        for name in people:
            stem = root / "ds003720" / name / "func" / f"{name}_task-{part}_run-{k + 1:02d}"
            Path(f"{stem}_events.tsv").write_text(text)
            Path(f"{stem}_bold.json").write_text(json.dumps({"RepetitionTime": _TR_S}))
            volumes = _bold(levels @ weights[name], response, noise, rng)
            write_image(Path(f"{stem}_bold.nii.gz"), volumes, tr_s=_TR_S)
    atlas = write_image(root / "atlas.nii.gz", labels, affine=AFFINE)
    names = "".join(f"{index}\t{name}\n" for index, name in REGIONS.items())
    (root / "atlas.tsv").write_text("index\tname\n" + names)
    return root / "ds003720", atlas


def _bold(
    drive: NDArray[np.float64],
    response: NDArray[np.float64],
    noise: float,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Return volumes of 40 voxels, the last ten of which do not hear."""
    answer = np.array([np.convolve(column, response)[:N_VOLUMES] for column in drive.T]).T
    answer[:, 30:] = 0.0
    signal = answer + noise * answer[:, :30].std() * rng.normal(size=answer.shape)
    drift = 40 * np.linspace(-1, 1, N_VOLUMES)[:, None] * rng.normal(size=(1, 40))
    values = np.zeros((42, N_VOLUMES))
    values[:40] = (5000 + 30 * signal + drift).T
    return np.round(values).astype(np.int16).reshape(3, 7, 2, N_VOLUMES)


def eeg_songs(
    root: Path, *, n_songs: int = 3, n_people: int = 4, seconds: int = 12, n_channels: int = 8
) -> tuple[Path, Path]:
    """Write NMED-T's files and songs; brains hear nothing, but each recording has its own noise."""
    import soundfile
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    folder, sounds = root / "nmed", root / "songs"
    folder.mkdir(parents=True)
    sounds.mkdir()
    names = np.array([[f"{k:02d}" for k in range(2, 2 + n_people)]], dtype=object)
    for number in range(21, 21 + n_songs):
        data = rng.normal(size=(n_channels, seconds * 125, n_people))
        data *= 20 * np.exp(
            0.5 * rng.normal(size=(n_channels, 1, n_people))
        )  # the cap's fingerprint
        values = {f"data{number}": data, f"subs{number}": names, "fs": 125.0}
        savemat(folder / f"song{number}_Imputed.mat", values)
        wave = noise_bands(rng.normal(0, 1, N_BANDS), float(seconds), number)
        soundfile.write(sounds / f"song{number}.wav", wave, RATE_HZ, subtype="PCM_16")
    return folder, sounds


def natural_sounds(root: Path, *, n_train: int = 16, n_test: int = 6) -> tuple[Path, Path]:
    """Write one person's BData files (4 training and 8 test presentations) and the 4-s windows."""
    import soundfile

    from tests.calibration.readers.layouts import write_bdata

    rng = np.random.default_rng(0)
    sounds = root / "sounds"
    sounds.mkdir(parents=True)
    weights = rng.normal(size=(N_BANDS, 40))
    for part, n, times in (("Train", n_train, 4), ("Test", n_test, 8)):
        gains = rng.normal(0, 1, (n, N_BANDS))
        names = [f"{part.lower()}{k}_0" for k in range(n)]
        for k, name in enumerate(names):
            wave = noise_bands(gains[k], 4.0, k + 100 * times)
            soundfile.write(sounds / f"{name}.wav", wave, RATE_HZ, subtype="PCM_16")
        data = np.tile(gains @ weights, (times, 1))
        data += rng.normal(size=data.shape)
        path = root / "bdata" / f"P1_VGGishish{part}_volume_native.h5"
        write_bdata(path, data, names * times, {"hcp180_L_A1": range(40)})
    return root / "bdata", sounds


def stories(root: Path, *, rows: int = 30) -> tuple[Path, Path]:
    """Write four stories of ds003020 as `.hf5`, two of them the test ones, and their sounds."""
    import h5py
    import soundfile

    rng = np.random.default_rng(0)
    folder, sounds = root / "ds003020" / "derivative" / "preprocessed_data" / "UTS01", root / "wav"
    folder.mkdir(parents=True)
    sounds.mkdir()
    weights = rng.normal(size=(N_BANDS, 20))
    for number, name in enumerate(("adollshouse", "avatar", "hangtime", "wheretheressmoke")):
        seconds = round(2.0045 * rows) + 22
        gains = rng.normal(0, 1, (seconds // 2 + 1, N_BANDS))
        wave = np.concatenate(
            [noise_bands(gain, 2.0, 1000 * number + k) for k, gain in enumerate(gains)]
        )
        soundfile.write(sounds / f"{name}.wav", wave[: seconds * RATE_HZ], RATE_HZ)
        # Row i answers to the stretch from 2 i + 6 s on: 4 s of lag, 10 s of sound before row 0.
        heard = gains[3 : 3 + rows]
        data = heard @ weights + 0.5 * rng.normal(size=(rows, 20))
        with h5py.File(folder / f"{name}.hf5", "w") as file:
            file["data"] = (data - data.mean(axis=0)) / data.std(axis=0)
    return root / "ds003020", sounds
