"""All that is known of a simulated data set: weights, lags, noise, and what can be decoded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.simulate.bold import BoldBrain, haemodynamics, space_covariance
from calibration.simulate.eeg import eeg_listener
from calibration.simulate.features import STEP_S, ClipFeatures
from calibration.simulate.oracle import (
    LinearDecoder,
    OracleScore,
    ar1_mean_variance,
    best_linear_decoder,
    expected_score,
    trained_score,
)
from calibration.simulate.runs import Simulation, simulation
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import plan_runs
from models.errors import FileError, SettingError

__all__ = ["ClipResponses", "SimulatedTruth", "load_truth", "save_truth", "simulated_truth"]

_MOST_VOXELS = 12_000  # the covariance of the noise is a matrix of so many squared
_BRAIN_ARRAYS = ("weights", "peak_s", "baseline", "scale", "snr")
_FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class ClipResponses:
    """The response to each clip without noise: the mean over the volumes that answer to it."""

    values: NDArray[np.float64]  # (n, n_voxels) scanner units about the baseline
    clip: NDArray[np.str_]  # (n,)
    n_volumes: int


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedTruth:
    """The causes of a simulated data set, by which what was found in it is judged.

    People are named as in the data set ("sub-01"), or numbered from 0.
    """

    simulation: Simulation
    _brains: dict[int, BoldBrain] = field(default_factory=dict)

    @property
    def settings(self) -> SimulationSettings:
        """What was simulated."""
        return self.simulation.settings

    def number_of(self, person: str | int) -> int:
        """Return the number of a person, from 0.

        Raises
        ------
        SettingError
            If there is no such person.
        """
        people = self.settings.people
        if isinstance(person, str):
            names = [name for name in people if person in (name, name.removeprefix("sub-"))]
            if names:
                return people.index(names[0])
        elif 0 <= person < len(people):
            return person
        raise SettingError(f"No simulated person is {person!r}; there are {', '.join(people)}.")

    def brain(self, person: str | int) -> BoldBrain:
        """Return a person in the scanner: weights, lags, scales, SNR of each voxel."""
        number = self.number_of(person)
        if number not in self._brains:
            self._brains[number] = self.simulation.brain(number)
        return self._brains[number]

    @property
    def features(self) -> ClipFeatures:
        """The embedding that drives the brains.

        Raises
        ------
        SettingError
            If the simulation is of EEG, which follows the sound itself.
        """
        if self.simulation.features is None:
            raise SettingError("Simulated EEG follows the sound, not an embedding of it.")
        return self.simulation.features

    def peak_s(self) -> dict[str, float]:
        """Return when the haemodynamic response of each region peaks, s."""
        return {region.name: self.settings.peak_of(region) for region in self.settings.regions}

    def lag_s(self, *, window_s: float | None = None) -> dict[str, float]:
        """Return for each region the lag at which a window holds most of its own stimulus.

        Parameters
        ----------
        window_s : float, optional
            Length of the window and of its stimulus; that of a clip by default.

        Returns
        -------
        lag_s : dict of str to float
            By name of the region; on a grid of a tenth of the TR.
        """
        window_s = self.settings.clip_duration_s if window_s is None else window_s
        return {
            name: _best_lag(peak, window_s, self.settings.tr_s)
            for name, peak in self.peak_s().items()
        }

    def target(self, clip: str, start_s: float, stop_s: float) -> NDArray[np.float64]:
        """Return the mean embedding of a stretch of a clip, as the brain is driven by it."""
        return self.features.of(clip, start_s, stop_s)

    def targets(self, samples: Samples) -> NDArray[np.float64]:
        """Return the mean embedding of each sample's stretch: (n, n_features)."""
        rows = zip(samples.clip, samples.start_s, samples.stop_s, strict=True)
        return np.array([self.target(str(clip), float(a), float(b)) for clip, a, b in rows])

    def clip_targets(self, clips: NDArray[np.str_]) -> NDArray[np.float64]:
        """Return the mean embedding of whole clips: (n, n_features)."""
        length = self.settings.clip_duration_s
        return np.array([self.target(str(clip), 0.0, length) for clip in clips])

    def clip_responses(
        self, person: str | int, part: str = "", *, lag_s: float | None = None
    ) -> ClipResponses:
        """Return what clips evoke, without noise; a clip that comes again is averaged.

        Parameters
        ----------
        person : str or int
        part : {"train", "test", ""}
            Of which runs; "": all.
        lag_s : float, optional
            From a clip's onset to its window; rounded up to whole volumes. By default the peak
            of the response that the settings name.

        Raises
        ------
        SettingError
            If no run is of this part.
        """
        brain, tr_s = self.brain(person), self.settings.tr_s
        lag_s = self.settings.peak_s if lag_s is None else lag_s
        n_volumes = max(1, int(np.ceil(self.settings.clip_duration_s / tr_s - 1e-3)))
        found: dict[str, list[NDArray[np.float64]]] = {}
        for run in self.simulation.runs:
            if part and run.part != part:
                continue
            response = brain.response(run, self.features)
            for item in run.presentations:
                first = int(np.ceil((item.onset_s + lag_s) / tr_s - 1e-3))
                if item.dummy or first < 0 or first >= len(response):
                    continue
                window = response[first : first + n_volumes]
                # The last clip of a run loses volumes; where most are lost, it is left out.
                if len(window) >= n_volumes / 2:
                    found.setdefault(item.clip.id, []).append(window.mean(axis=0))
        if not found:
            raise SettingError(f"The simulation has no clips of part {part!r}.")
        values = np.array([np.mean(rows, axis=0) for rows in found.values()]) * brain.scale
        return ClipResponses(values, np.array(list(found)), n_volumes)

    def noise_covariance(
        self, person: str | int, *, n_volumes: int = 1, drift: bool = False
    ) -> NDArray[np.float64]:
        """Return the covariance of the noise between voxels, of means of volumes in a row.

        Parameters
        ----------
        person : str or int
        n_volumes : int
            Averaged.
        drift : bool
            Whether the slow drifts count too (they hardly average out within a window).

        Returns
        -------
        covariance : array of shape (n_voxels, n_voxels), float64
            Scanner units squared.

        Raises
        ------
        SettingError
            If there are more than 12,000 voxels.
        """
        if self.settings.n_voxels > _MOST_VOXELS:
            raise SettingError(
                f"A covariance between {self.settings.n_voxels} voxels does not fit; simulate "
                f"{_MOST_VOXELS} or fewer for an oracle."
            )
        brain = self.brain(person)
        covariance = space_covariance(self.settings)
        covariance *= ar1_mean_variance(n_volumes, self.settings.ar1)
        if drift:
            covariance += self.settings.drift**2 * space_covariance(self.settings, drift=True)
        return np.asarray(covariance * np.outer(brain.scale, brain.scale))

    def noise_ceiling(
        self, person: str | int, *, n_repetitions: int = 1, n_volumes: int = 1
    ) -> NDArray[np.float64]:
        """Return the largest correlation that a prediction can have with each voxel.

        sqrt(s / (s + n / R)), with the variances s of the response, n of the noise, of means of
        `n_volumes` volumes in a row and R repetitions.

        Returns
        -------
        ceiling : array of shape (n_voxels,), float64
            0 where nothing responds.
        """
        if n_repetitions < 1 or n_volumes < 1:
            raise SettingError(
                f"A ceiling is of 1 repetition and volume or more, got {n_repetitions} and "
                f"{n_volumes}."
            )
        brain = self.brain(person)
        signal = brain.snr
        if n_volumes > 1:
            signal = self._variance_of_means(brain, n_volumes)
        noise = ar1_mean_variance(n_volumes, self.settings.ar1) / n_repetitions
        return np.asarray(np.sqrt(signal / (signal + noise)))

    def _variance_of_means(self, brain: BoldBrain, n_volumes: int) -> NDArray[np.float64]:
        skip = round(15.0 / self.settings.tr_s)
        rows = []
        for run in self.simulation.runs:
            if run.part == "test" and self.settings.run_counts[0]:
                continue
            total = np.cumsum(brain.response(run, self.features), axis=0)
            total = total[skip:] if len(total) > 2 * (skip + n_volumes) else total
            rows.append((total[n_volumes:] - total[:-n_volumes]) / n_volumes)
        return np.asarray(np.var(np.concatenate(rows), axis=0))

    def oracle_decoder(
        self,
        person: str | int,
        *,
        lag_s: float | None = None,
        drift: bool = False,
        targets: Mapping[str, NDArray[Any]] | None = None,
    ) -> LinearDecoder:
        """Return the best linear decoder of whole clips: known responses, known noise.

        Parameters
        ----------
        person : str or int
        lag_s : float, optional
            See `clip_responses`.
        drift : bool
            See `noise_covariance`.
        targets : mapping of str to array, optional
            Vector of each clip; by default the mean embedding that drove the brain.
        """
        train = self.clip_responses(person, self._training, lag_s=lag_s)
        noise = self.noise_covariance(person, n_volumes=train.n_volumes, drift=drift)
        return best_linear_decoder(train.values, self._wanted(train.clip, targets), noise)

    def oracle(
        self,
        person: str | int,
        *,
        lag_s: float | None = None,
        n_repetitions: int | None = None,
        drift: bool = False,
        targets: Mapping[str, NDArray[Any]] | None = None,
        trained: bool = False,
        n_draws: int | None = None,
    ) -> OracleScore:
        """Return what the best linear decoder scores on the test clips, on average over noise.

        Parameters
        ----------
        person : str or int
        lag_s, drift, targets
            See `oracle_decoder`.
        n_repetitions : int, optional
            Averaged; by default as often as the timetable has each test clip.
        trained : bool
            False: the decoder knows responses and noise, as if it had endless data. True: it is
            ridge regression on one measurement of each training clip, with the best penalty.
        n_draws : int, optional
            Times that this is repeated with new noise; 200, and 10 of the trained one, by default.
        """
        part = "test" if self.settings.run_counts[1] else self._training
        train = self.clip_responses(person, self._training, lag_s=lag_s)
        test = self.clip_responses(person, part, lag_s=lag_s)
        noise = self.noise_covariance(person, n_volumes=train.n_volumes, drift=drift)
        known = (train.values, self._wanted(train.clip, targets))
        asked = (test.values, self._wanted(test.clip, targets))
        repeated = self.n_repetitions if n_repetitions is None else n_repetitions
        seed = self.settings.seed
        if trained:
            draws = 10 if n_draws is None else n_draws
            return trained_score(
                known, asked, noise, n_repetitions=repeated, n_draws=draws, seed=seed
            )
        draws = 200 if n_draws is None else n_draws
        decoder = best_linear_decoder(*known, noise)
        return expected_score(
            decoder, *asked, noise, n_repetitions=repeated, n_draws=draws, seed=seed
        )

    @property
    def n_repetitions(self) -> int:
        """How often each test clip is heard."""
        if not self.settings.run_counts[1] or self.settings.schedule == "songs":
            return 1
        return 4 if self.settings.schedule == "ds003720" else self.settings.repetitions

    @property
    def _training(self) -> str:
        return "train" if any(run.part == "train" for run in self.simulation.runs) else ""

    def _wanted(
        self, clips: NDArray[np.str_], targets: Mapping[str, NDArray[Any]] | None
    ) -> NDArray[np.float64]:
        if targets is None:
            return self.clip_targets(clips)
        if missing := [str(clip) for clip in clips if str(clip) not in targets]:
            raise SettingError(f"There is no target for {len(missing)} clips, e.g. {missing[0]!r}.")
        return np.array([np.asarray(targets[str(clip)], np.float64) for clip in clips])

    def response_functions(self, person: str | int) -> NDArray[np.float64]:
        """Return the temporal response functions of simulated EEG: (n_lags, n_bands, 32)."""
        return eeg_listener(self.settings, self.number_of(person)).response_functions()


def _best_lag(peak_s: float, window_s: float, tr_s: float) -> float:
    n = max(1, round(window_s / tr_s))
    lags = np.arange(0.0, 20.0, tr_s / 10.0)
    # A run of many volumes, of which the stimulus fills `window_s` from second 60 on.
    n_steps = int(np.ceil((60.0 + window_s + 60.0) / STEP_S))
    heard = (np.arange(n_steps) + 0.5) * STEP_S
    stimulus = ((heard >= 60.0) & (heard < 60.0 + window_s)).astype(np.float64)
    fine = haemodynamics(int(n_steps * STEP_S / tr_s) * 10, tr_s / 10.0, n_steps, peak_s)
    response = fine @ stimulus
    first = np.round((60.0 + lags) / (tr_s / 10.0)).astype(np.int64)
    shares = [float(response[k : k + 10 * n].mean()) for k in first]
    return float(lags[int(np.argmax(shares))])


def simulated_truth(settings: SimulationSettings) -> SimulatedTruth:
    """Return the truth of what `simulate_runs` gives for the same settings."""
    return SimulatedTruth(simulation(settings))


def save_truth(truth: SimulatedTruth, folder: Path) -> None:
    """Write the truth: `truth.json` (settings, regions) and `truth.npz` (arrays).

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    settings = truth.settings
    words: dict[str, Any] = {"format": _FORMAT, "settings": settings.to_dict()}
    arrays: dict[str, NDArray[Any]] = {}
    for number, name in enumerate(settings.people):
        if settings.modality == "fmri":
            brain = truth.brain(number)
            arrays |= {f"{name}/{key}": getattr(brain, key) for key in _BRAIN_ARRAYS}
        else:
            arrays[f"{name}/response_functions"] = truth.response_functions(number)
    if settings.modality == "fmri":
        features = truth.features
        words |= {
            "embedding": features.name,
            "peak_s": truth.peak_s(),
            "lag_s_of_a_whole_clip": truth.lag_s(),
            "snr_is": "variance of the response after the haemodynamics over that of the AR(1) "
            "noise, of single volumes, mean over informative voxels",
        }
        arrays |= {
            "features/values": features.values,
            "features/mean": features.mean,
            "features/projection": features.projection,
            "features/standard": features.standard,
            "features/clips": np.array(features.clips),
        }
    (folder / "truth.json").write_text(json.dumps(words, indent=2) + "\n", encoding="utf-8")
    np.savez_compressed(folder / "truth.npz", **arrays)  # type: ignore[arg-type]


def load_truth(path: Path) -> SimulatedTruth:
    """Read the truth of a simulated data set.

    Parameters
    ----------
    path : Path
        Root of the data set, or the folder of `truth.json`.

    Raises
    ------
    FileError
        If there is none, or it is damaged or of another version.
    """
    path = Path(path)
    folder = next(
        (p for p in (path / "derivatives" / "simulation", path) if (p / "truth.json").is_file()),
        None,
    )
    if folder is None:
        raise FileError(
            f"{path} holds no truth of a simulation (derivatives/simulation/truth.json). Give a "
            f"data set that 'hearback simulate' wrote."
        )
    try:
        words = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        if words.get("format") != _FORMAT:
            raise FileError(
                f"The truth in {folder} is of format {words.get('format')}, expected {_FORMAT}. "
                f"Simulate again."
            )
        settings = SimulationSettings.from_dict(words["settings"])
        with np.load(folder / "truth.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        runs = plan_runs(settings)
        if settings.modality == "eeg":
            return SimulatedTruth(Simulation(settings, runs, None))
        features = ClipFeatures(
            clips=tuple(str(clip) for clip in arrays["features/clips"]),
            values=arrays["features/values"],
            mean=arrays["features/mean"],
            projection=arrays["features/projection"],
            name=words["embedding"],
            standard=arrays["features/standard"],
        )
        brains = {
            number: BoldBrain(
                settings, number, **{key: arrays[f"{name}/{key}"] for key in _BRAIN_ARRAYS}
            )
            for number, name in enumerate(settings.people)
        }
    except (OSError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, FileError | SettingError):
            raise
        raise FileError(
            f"The truth in {folder} cannot be read: {error}. Simulate again."
        ) from error
    return SimulatedTruth(Simulation(settings, runs, features), brains)
