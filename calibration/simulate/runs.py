"""Simulated recordings in memory, in the form that readers give: nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset, Event, Run, Stimulus
from calibration.listener_eeg import EEG_CHANNELS
from calibration.simulate.anatomy import head
from calibration.simulate.bold import BoldBrain, bold_brain
from calibration.simulate.eeg import eeg_listener, run_noise, run_response
from calibration.simulate.features import ClipFeatures, SoundEmbedding, clip_features
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import PlannedRun, plan_runs
from models.errors import SettingError

__all__ = ["Part", "Simulation", "simulate_runs", "simulation"]

Part = Literal["all", "signal", "noise"]


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """A design and its stimuli, from which any person's runs can be had one by one."""

    settings: SimulationSettings
    runs: tuple[PlannedRun, ...]
    features: ClipFeatures | None  # None: EEG, which follows the sound itself

    def brain(self, person: int) -> BoldBrain:
        """Return a person, from 0, in the scanner.

        Raises
        ------
        SettingError
            If the simulation is of EEG.
        """
        if self.features is None:
            raise SettingError("The simulation is of EEG; voxels are there for 'fmri' only.")
        return bold_brain(self.settings, person, self.runs, self.features)

    def recordings(self, person: int, *, part: Part = "all") -> Iterator[Run]:
        """Simulate the runs of a person, from 0, one by one.

        Parameters
        ----------
        person : int
        part : {"all", "signal", "noise"}
            What is recorded, in whole scanner units (fMRI); or one of its two parts, with the
            baseline, and not rounded.
        """
        for number in range(len(self.runs)):
            yield self.recording(person, number, part=part)

    def recording(self, person: int, number: int, *, part: Part = "all") -> Run:
        """Simulate one run; `person` and `number` count from 0."""
        if part not in ("all", "signal", "noise"):
            raise SettingError(f"The part is 'all', 'signal' or 'noise', got {part!r}.")
        bold = self.settings.modality == "fmri"
        make = self._volumes if bold else self._samples
        signal = make(person, number, part).astype(np.float32)
        planned = self.runs[number]
        sfreq_hz = 1.0 / self.settings.tr_s if bold else self.settings.sfreq_hz
        events = tuple(
            Event(item.onset_s, item.clip.duration_s, item.clip.id, item.clip.label)
            for item in planned.presentations
            if not item.dummy
        )
        stamps = np.arange(len(signal)) / sfreq_hz
        name = self.settings.people[person]
        return Run(
            name, planned.session, planned.run, planned.part, signal, sfreq_hz, stamps, events
        )

    def _volumes(self, person: int, number: int, part: Part) -> NDArray[np.float64]:
        assert self.features is not None
        brain = _brain(self, person)
        planned = self.runs[number]
        shape = (planned.n_volumes(self.settings.tr_s), self.settings.n_voxels)
        change = np.zeros(shape)
        if part != "noise":
            change += brain.response(planned, self.features)
        if part != "signal":
            change += brain.noise(planned, number)
        volumes = brain.baseline + brain.scale * change
        return np.rint(volumes) if part == "all" else volumes

    def _samples(self, person: int, number: int, part: Part) -> NDArray[np.float64]:
        listener = eeg_listener(self.settings, person)
        planned = self.runs[number]
        parts: list[NDArray[np.float64]] = []
        if part != "noise":
            parts.append(run_response(listener, planned))
        if part != "signal":
            parts.append(run_noise(self.settings, listener, planned, number))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def dataset(self, runs: Sequence[Run]) -> Dataset:
        """Return runs as a data set without files."""
        bold = self.settings.modality == "fmri"
        stimuli = {
            clip.id: Stimulus(clip.id, clip.label, duration_s=clip.duration_s)
            for planned in self.runs
            for clip in planned.clips
        }
        return Dataset(
            path=Path("simulation"),
            format="simulation",
            modality="bold" if bold else "eeg",
            channels=() if bold else EEG_CHANNELS,
            runs=tuple(runs),
            stimuli=stimuli,
            space=head(self.settings) if bold else None,
            unit="a.u." if bold else "V",
        )


@lru_cache(maxsize=4)
def _brain(simulated: Simulation, person: int) -> BoldBrain:
    return simulated.brain(person)


@lru_cache(maxsize=8)
def _cached(settings: SimulationSettings) -> Simulation:
    runs = plan_runs(settings)
    features = clip_features(settings, runs) if settings.modality == "fmri" else None
    return Simulation(settings, runs, features)


def simulation(
    settings: SimulationSettings, *, embedder: SoundEmbedding | None = None
) -> Simulation:
    """Return the design of a simulation and the embedding of its stimuli.

    Parameters
    ----------
    settings : SimulationSettings
    embedder : SoundEmbedding, optional
        What drives the brain, instead of what the settings name (fMRI).

    Raises
    ------
    SettingError
        If the stimuli have fewer directions than the brains are to share.
    """
    if embedder is None:
        return _cached(settings)
    runs = plan_runs(settings)
    return Simulation(settings, runs, clip_features(settings, runs, embedder=embedder))


def simulate_runs(
    settings: SimulationSettings,
    *,
    people: Sequence[int] | None = None,
    part: Part = "all",
    embedder: SoundEmbedding | None = None,
) -> Dataset:
    """Simulate recordings in memory: the very numbers that `simulate_dataset` writes.

    Sounds are made once and their embedding is kept, so that a second simulation of the same
    stimuli costs little; `embedding="latent"` needs no sounds at all.

    Parameters
    ----------
    settings : SimulationSettings
    people : sequence of int, optional
        Which of the people, from 0; all by default.
    part : {"all", "signal", "noise"}
        See `Simulation.recordings`.
    embedder : SoundEmbedding, optional
        See `simulation`.

    Returns
    -------
    dataset : Dataset
        Dummy rows of the timetable are not among the events. No stimulus has a sound file.

    Raises
    ------
    SettingError
        If a person is not there, or the stimuli are too few for the brains.
    """
    wanted = range(settings.n_people) if people is None else people
    if any(not 0 <= person < settings.n_people for person in wanted):
        raise SettingError(
            f"People count from 0 to {settings.n_people - 1}, got {list(wanted)}. Raise n_people."
        )
    simulated = simulation(settings, embedder=embedder)
    runs = [run for person in wanted for run in simulated.recordings(person, part=part)]
    return simulated.dataset(runs)
