"""A simulated data set on disk: valid BIDS, its sounds, and the truth beside it."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from calibration.listener_eeg import EEG_CHANNELS
from calibration.simulate.anatomy import head
from calibration.simulate.bids import (
    EVENT_COLUMNS,
    run_stem,
    write_bold,
    write_brainvision,
    write_description,
    write_eeg_sidecars,
    write_events,
    write_json,
    write_regions,
    write_table,
)
from calibration.simulate.features import SoundEmbedding, clip_sound, clip_statistics
from calibration.simulate.runs import Simulation, simulation
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import Clip, PlannedRun, plan_runs
from calibration.simulate.truth import SimulatedTruth, save_truth
from calibration.stimuli import SAMPLE_RATE_HZ
from models.errors import FileError

__all__ = ["Progress", "expected_bytes", "simulate_dataset"]

Progress = Callable[[int, int], None]

_README = """# Simulated listener

A data set in which nobody listened: {people} simulated {noun} "heard" {n_clips} procedural sounds
in {n_runs} runs of {modality}. It was made by `hearback simulate`; every cause is known and lies in
`derivatives/simulation` (`truth.json`, `truth.npz`).

- Timetable: {schedule}. Seed: {seed}. Signal-to-noise ratio (variances): {snr:g}.
- `stimuli/` holds the sounds; the events name them (`stim_file`, `stimulus`).
- A row of the events whose `dummy` is 1 is not to be used.
{more}"""
_FMRI = """- The mask and the regions (label image and names) of each person are in
  `derivatives/simulation/sub-XX/func`.
"""


@dataclass
class _Counter:
    total: int
    progress: Progress | None
    done: int = 0

    def tick(self) -> None:
        self.done += 1
        self.tell()

    def tell(self) -> None:
        if self.progress is not None:
            self.progress(self.done, self.total)


def expected_bytes(settings: SimulationSettings) -> int:
    """Return roughly how much room a data set takes; a little too much rather than too little."""
    runs = plan_runs(settings)
    seconds = sum(run.duration_s for run in runs)
    clips = {clip for run in runs for clip in run.clips}
    sound = 0.0
    if settings.embedding != "latent":
        # FLAC halves these sounds and more.
        share = 0.5 if settings.sound_format == "flac" else 1.0
        sound = share * sum(clip.duration_s for clip in clips) * SAMPLE_RATE_HZ * 2
    if settings.modality == "eeg":
        one = seconds * settings.sfreq_hz * len(EEG_CHANNELS) * 4
    else:
        one = seconds / settings.tr_s * settings.n_voxels * 1.5
        sound += len(clips) * settings.n_features * 2 * settings.clip_duration_s * 4  # truth
    return int(sound + settings.n_people * one) + 1_000_000


def simulate_dataset(
    out: Path | str,
    settings: SimulationSettings | None = None,
    *,
    progress: Progress | None = None,
    embedder: SoundEmbedding | None = None,
) -> Path:
    """Write a simulated data set.

    It is made in a folder of its own beside `out` and gets its name when it is complete: what is
    called `out` is never half a data set.

    Parameters
    ----------
    out : Path or str
        Folder that is not there yet, or is empty.
    settings : SimulationSettings, optional
    progress : callable, optional
        Called with how many of how many steps (sounds and runs) are done.
    embedder : SoundEmbedding, optional
        What drives the brain, instead of what the settings name (fMRI).

    Returns
    -------
    out : Path
        Root of the BIDS data set.

    Raises
    ------
    FileError
        If `out` is in use, or cannot be written, or the disk is full.
    SettingError
        If the settings do not go together.
    """
    settings = settings if settings is not None else SimulationSettings()
    out = Path(out)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FileError(
                f"{out} is there already and not an empty folder. Name another, or remove it."
            )
        parent = out.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(parent).free, expected_bytes(settings)
        if free < needed:
            raise FileError(
                f"The data set takes about {needed / 1e6:.0f} MB and {parent} has "
                f"{free / 1e6:.0f} MB left. Free some room, or ask for fewer people or runs."
            )
        with tempfile.TemporaryDirectory(
            prefix=f".{out.name}-", dir=parent, ignore_cleanup_errors=True
        ) as folder:
            made = Path(folder) / out.name
            made.mkdir()
            _write(made, settings, progress, embedder)
            if out.is_dir():
                out.rmdir()  # empty, as was seen above
            made.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FileError(
                f"The disk of {out} became full; nothing was left there. Free some room, or ask "
                f"for fewer people or runs."
            ) from error
        raise FileError(
            f"Cannot write {out}: {error.strerror or error}. Check the folder and its rights."
        ) from error
    return out


def _write(
    root: Path,
    settings: SimulationSettings,
    progress: Progress | None,
    embedder: SoundEmbedding | None,
) -> None:
    runs = plan_runs(settings)
    clips = tuple(dict.fromkeys(clip for run in runs for clip in run.clips))
    sounds = settings.embedding != "latent"
    counter = _Counter((len(clips) if sounds else 0) + settings.n_people * len(runs), progress)
    counter.tell()
    if sounds:
        mel = settings.modality == "fmri" and embedder is None
        _write_sounds(root / "stimuli", clips, settings.sound_format, mel=mel, counter=counter)
    simulated = simulation(settings, embedder=embedder)
    ending = f".{settings.sound_format}" if sounds else None
    for number in range(settings.n_people):
        for planned, run in zip(runs, simulated.recordings(number), strict=True):
            kind = "func" if settings.modality == "fmri" else "eeg"
            stem = run_stem(root, run, run.participant, kind)
            stem.parent.mkdir(parents=True, exist_ok=True)
            if settings.modality == "fmri":
                write_bold(stem, run, head(settings), settings)
            else:
                write_brainvision(stem, run, EEG_CHANNELS)
                write_eeg_sidecars(stem, run, EEG_CHANNELS)
            write_events(stem, planned, ending=ending)
            counter.tick()
    _write_root(root, settings, runs, len(clips))
    _write_derivatives(root / "derivatives" / "simulation", simulated)


def _write_sounds(
    folder: Path, clips: tuple[Clip, ...], form: str, *, mel: bool, counter: _Counter
) -> None:
    import soundfile

    folder.mkdir()

    def one(clip: Clip) -> None:
        pcm = clip_sound(clip)
        path = folder / f"{clip.id}.{form}"
        try:
            soundfile.write(path, pcm, SAMPLE_RATE_HZ, format=form.upper(), subtype="PCM_16")
        except soundfile.LibsndfileError as error:
            # The library does not say why; on a full disk this is what happens.
            full = shutil.disk_usage(folder).free < 4 * pcm.nbytes
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, f"{path.name} could not be written ({error})") from error
        if mel:
            clip_statistics(clip)  # while the sound is at hand; it is kept

    with ThreadPoolExecutor() as pool:
        try:
            for _ in pool.map(one, clips):
                counter.tick()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C, or a full disk: not all the others too
            raise


def _write_root(
    root: Path, settings: SimulationSettings, runs: tuple[PlannedRun, ...], n_clips: int
) -> None:
    write_description(root, name=f"Simulated listener ({settings.modality})")
    n_people = settings.n_people
    (root / "README").write_text(
        _README.format(
            people=n_people,
            noun="person" if n_people == 1 else "people",
            n_clips=n_clips,
            n_runs=len(runs),
            modality="fMRI" if settings.modality == "fmri" else "EEG",
            schedule=settings.schedule,
            seed=settings.seed,
            snr=settings.snr,
            more=_FMRI if settings.modality == "fmri" else "",
        ),
        encoding="utf-8",
    )
    write_table(
        root / "participants.tsv",
        ("participant_id", "simulated"),
        [(name, "yes") for name in settings.people],
    )
    write_json(
        root / "participants.json",
        {"simulated": {"Description": "yes: no living being, but a formula"}},
    )
    columns = {name: {"Description": text} for name, text in EVENT_COLUMNS.items()}
    for task in sorted({run.task for run in runs}):
        write_json(root / f"task-{task}_events.json", columns)


def _write_derivatives(folder: Path, simulated: Simulation) -> None:
    folder.mkdir(parents=True)
    write_description(folder, name="Truth of the simulation", derivative=True)
    save_truth(SimulatedTruth(simulated), folder)
    if simulated.settings.modality == "fmri":
        for name in simulated.settings.people:
            write_regions(folder, name, head(simulated.settings))
