"""What is simulated: who, how clear, how noisy, on which timetable.

The signal-to-noise ratio is a ratio of variances. For BOLD: the variance of the response after the
haemodynamics over that of the AR(1) noise (drifts left out, which preprocessing takes away), of
single volumes, mean over the informative voxels. For EEG: the mean power of the response over that
of the noise, all electrodes and frequencies together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from models.errors import SettingError

__all__ = ["RegionSettings", "SimulationSettings", "default_regions"]

_INFORMATIVE = ("heschl", "planum-temporale", "planum-polare", "stg-anterior", "stg-middle",
                "stg-posterior")  # fmt: skip
_UNINFORMATIVE = ("calcarine", "cuneus", "precentral", "postcentral", "parietal-superior",
                  "frontal-medial")  # fmt: skip


@dataclass(frozen=True, slots=True)
class RegionSettings:
    """A named region of voxels.

    Parameters
    ----------
    name : str
    n_voxels : int
    informative : float
        Share of its voxels that respond to the stimulus, 0 to 1.
    peak_s : float or None
        When its haemodynamic response peaks after a short stimulus; None: as the settings say.
    snr_factor : float
        Its signal-to-noise ratio over that of the settings.
    """

    name: str
    n_voxels: int = 100
    informative: float = 1.0
    peak_s: float | None = None
    snr_factor: float = 1.0

    def __post_init__(self) -> None:
        if not self.name or not set(self.name) <= set(_NAME_LETTERS):
            raise SettingError(
                f"The name of a region is made of letters, digits, - and _, got {self.name!r}."
            )
        if self.n_voxels < 1 or not 0.0 <= self.informative <= 1.0:
            raise SettingError(
                f"Region {self.name!r} needs a voxel and a share of informative ones in 0 to 1, "
                f"got {self.n_voxels} and {self.informative}."
            )
        if self.peak_s is not None and not 1.0 <= self.peak_s <= 12.0:
            raise SettingError(
                f"The response of {self.name!r} may peak at 1 to 12 s, got {self.peak_s} s."
            )
        if not 0.0 <= self.snr_factor < math.inf:
            raise SettingError(f"snr_factor of {self.name!r} is >= 0, got {self.snr_factor}.")


_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


def default_regions(
    *, n_informative: int = 6, n_uninformative: int = 6, n_voxels: int = 100
) -> tuple[RegionSettings, ...]:
    """Return regions of equal size, the informative ones first.

    The first six of each kind have names of the brain; further ones are numbered.
    """

    def names(known: tuple[str, ...], more: str, n: int) -> list[str]:
        return [known[k] if k < len(known) else f"{more}-{k + 1:02d}" for k in range(n)]

    return tuple(
        RegionSettings(name, n_voxels, share)
        for share, group in (
            (1.0, names(_INFORMATIVE, "auditory", n_informative)),
            (0.0, names(_UNINFORMATIVE, "other", n_uninformative)),
        )
        for name in group
    )


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """Everything that a simulated data set depends on; the same settings give the same numbers.

    Parameters
    ----------
    modality : {"fmri", "eeg"}
    n_people : int
        They hear the same; each has a brain of their own.
    snr : float
        Ratio of variances, see the module; 0: the brain does not hear.
    seed : int
        Of the sounds, the brains and the noise.
    timetable : {"ds003720", "short", "songs"} or None
        "ds003720": that data set's order of classes, its first row that repeats, its test runs of
        ten clips four times. "short": runs of `clips_per_run` clips; in test runs `n_test_clips`
        in one fixed cycle, `repetitions` times. "songs": a run is one clip, heard once. None:
        "ds003720" for fMRI, "short" for EEG.
    clip_s : float or None
        Length of a clip; None: 15 s ("ds003720", which has no other), 6 s, or 60 s.
    n_runs : (int, int) or None
        Training and test runs of each person; None: (12, 6), (4, 2) or (EEG) (8, 2), (10, 0).
    n_sessions : int
        The runs of a person are spread evenly over them.
    embedding : {"mel-statistics", "latent"}
        What of the stimulus drives the brain. "mel-statistics": 96 statistics of the mel spectrum
        of procedural sounds (`calibration.embedding`). "latent": random vectors that walk through
        each clip; there are no sounds, which is what makes thousands of simulations cheap.
    embedding_dim : int
        Of "latent".
    latent_dim : int
        Dimensions of the stimulus that the brains share; each person's voxels see them turned by a
        rotation of their own.
    tr_s : float
        Time from volume to volume.
    peak_s : float
        When the haemodynamic response peaks, in regions without a peak of their own.
    regions : tuple of RegionSettings
    n_other_voxels : int
        Voxels of the mask outside all regions; they do not respond.
    ar1, drift, smooth_voxels, smooth_share : float
        Noise of BOLD: correlation from volume to volume; size of the slow drifts over the noise
        (standard deviations); width of the Gaussian in space; share of the variance that is smooth.
    noise_percent : float
        Standard deviation of the noise, percent of a voxel's baseline.
    sfreq_hz : float
        Of EEG.
    fingerprint : float
        EEG: how much each recording (a person's run) differs from the others in the spectrum of
        its noise, standard deviation of the log amplitude; it says nothing of the stimulus.
    sound_format : {"flac", "wav"}
        Of the sound files, 16 bits at 16 kHz. Both hold the same; 540 clips of 15 s are 110 MB
        as FLAC and 260 MB as WAV.
    """

    modality: Literal["fmri", "eeg"] = "fmri"
    n_people: int = 1
    snr: float = 0.2
    seed: int = 0
    timetable: Literal["ds003720", "short", "songs"] | None = None
    clip_s: float | None = None
    n_runs: tuple[int, int] | None = None
    n_sessions: int = 1
    clips_per_run: int = 12
    n_test_clips: int = 6
    repetitions: int = 4
    embedding: Literal["mel-statistics", "latent"] = "mel-statistics"
    embedding_dim: int = 32
    latent_dim: int = 16
    tr_s: float = 1.5
    peak_s: float = 5.0
    regions: tuple[RegionSettings, ...] = field(default_factory=default_regions)
    n_other_voxels: int = 300
    ar1: float = 0.4
    drift: float = 0.5
    smooth_voxels: float = 1.0
    smooth_share: float = 0.5
    noise_percent: float = 0.8
    sfreq_hz: float = 250.0
    fingerprint: float = 0.0
    sound_format: Literal["flac", "wav"] = "flac"

    def __post_init__(self) -> None:
        self._check_design()
        self._check_noise()
        if self.modality == "fmri":
            self._check_regions()

    def _check_design(self) -> None:
        if self.modality not in ("fmri", "eeg"):
            raise SettingError(f"The modality is 'fmri' or 'eeg', got {self.modality!r}.")
        if self.timetable not in (None, "ds003720", "short", "songs"):
            raise SettingError(
                f"The timetable is 'ds003720', 'short' or 'songs', got {self.timetable!r}."
            )
        if self.embedding not in ("mel-statistics", "latent"):
            raise SettingError(
                f"The embedding is 'mel-statistics' or 'latent', got {self.embedding!r}."
            )
        if not 1 <= self.n_people <= 999 or not 0 <= self.seed < 2**31:
            raise SettingError(
                f"A simulation has 1 to 999 people and a seed of 0 to 2**31 - 1, got "
                f"{self.n_people} and {self.seed}."
            )
        if not 0.0 <= self.snr < math.inf:
            raise SettingError(
                f"snr is a ratio of variances, 0 or more and finite, got {self.snr}. For the "
                f"response alone ask for the part 'signal'."
            )
        if self.schedule == "ds003720" and self.clip_s not in (None, 15.0):
            raise SettingError(
                f"Clips of the timetable ds003720 last 15 s, got {self.clip_s} s. Take the "
                f"timetable 'short' for others."
            )
        if not 1.0 <= self.clip_duration_s <= 600.0:
            raise SettingError(f"A clip lasts 1 to 600 s, got {self.clip_s} s.")
        n_train, n_test = self.run_counts
        if n_train < 0 or n_test < 0 or not 1 <= n_train + n_test <= 999:
            raise SettingError(f"There are 1 to 999 runs, got {self.n_runs}.")
        if not 1 <= self.n_sessions <= n_train + n_test:
            raise SettingError(
                f"{n_train + n_test} runs are spread over as many sessions or fewer, got "
                f"{self.n_sessions}."
            )
        if min(self.clips_per_run, self.n_test_clips, self.repetitions) < 1:
            raise SettingError(
                f"clips_per_run, n_test_clips and repetitions are 1 or more, got "
                f"{self.clips_per_run}, {self.n_test_clips} and {self.repetitions}."
            )
        if self.sound_format not in ("flac", "wav"):
            raise SettingError(f"sound_format is 'flac' or 'wav', got {self.sound_format!r}.")
        if self.embedding_dim < 2 or not 1 <= self.latent_dim <= self.n_features:
            raise SettingError(
                f"The brains share 1 to {self.n_features} dimensions of the embedding (2 or more), "
                f"got {self.latent_dim}."
            )

    def _check_noise(self) -> None:
        if not 0.25 <= self.tr_s <= 10.0 or not 1.0 <= self.peak_s <= 12.0:
            raise SettingError(
                f"The TR is 0.25 to 10 s and the response peaks at 1 to 12 s, got {self.tr_s} s "
                f"and {self.peak_s} s."
            )
        if not 0.0 <= self.ar1 < 1.0 or not 0.0 <= self.smooth_share <= 1.0:
            raise SettingError(
                f"ar1 lies in [0, 1) and smooth_share in [0, 1], got {self.ar1} and "
                f"{self.smooth_share}."
            )
        for name in ("drift", "smooth_voxels", "fingerprint"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise SettingError(f"{name} is 0 or more, got {getattr(self, name)}.")
        if not 0.05 <= self.noise_percent <= 10.0:
            raise SettingError(
                f"The noise is 0.05 to 10 percent of the baseline, got {self.noise_percent}."
            )
        if self.modality == "eeg" and self.embedding == "latent":
            raise SettingError(
                "Simulated EEG follows the envelope of sounds; embedding 'latent' has none. Take "
                "'mel-statistics'."
            )

    def _check_regions(self) -> None:
        names = [region.name for region in self.regions]
        if not names or len(set(names)) != len(names) or self.n_other_voxels < 0:
            raise SettingError(
                f"There are regions of different names, and 0 or more other voxels, got "
                f"{', '.join(names) or 'none'} and {self.n_other_voxels}."
            )
        if self.n_voxels > 200_000:
            raise SettingError(f"At most 200,000 voxels are simulated, got {self.n_voxels}.")

    @property
    def clip_duration_s(self) -> float:
        """Length of a clip, s."""
        if self.clip_s is not None:
            return self.clip_s
        return {"ds003720": 15.0, "short": 6.0, "songs": 60.0}[self.schedule]

    @property
    def schedule(self) -> Literal["ds003720", "short", "songs"]:
        """The timetable, also where none was given."""
        if self.timetable is not None:
            return self.timetable
        return "ds003720" if self.modality == "fmri" else "short"

    @property
    def run_counts(self) -> tuple[int, int]:
        """Training and test runs of each person."""
        if self.n_runs is not None:
            return self.n_runs
        short = (4, 2) if self.modality == "fmri" else (8, 2)
        return {"ds003720": (12, 6), "short": short, "songs": (10, 0)}[self.schedule]

    @property
    def n_features(self) -> int:
        """Dimensions of the embedding."""
        return 96 if self.embedding == "mel-statistics" else self.embedding_dim

    @property
    def n_voxels(self) -> int:
        """Voxels in the mask."""
        return sum(region.n_voxels for region in self.regions) + self.n_other_voxels

    @property
    def people(self) -> tuple[str, ...]:
        """Names of the participants."""
        return tuple(f"sub-{k + 1:02d}" for k in range(self.n_people))

    def peak_of(self, region: RegionSettings) -> float:
        """Return when the response of a region peaks, s."""
        return self.peak_s if region.peak_s is None else region.peak_s

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SimulationSettings:
        """Return the settings that `to_dict` gave.

        Raises
        ------
        SettingError
            If there is a setting that this version does not know.
        """
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SettingError(
                f"Unknown settings of a simulation: {', '.join(unknown)}. They were written by "
                f"another version of hearback."
            )
        read = dict(values)
        if "regions" in read:
            read["regions"] = tuple(RegionSettings(**region) for region in read["regions"])
        if read.get("n_runs") is not None:
            read["n_runs"] = tuple(read["n_runs"])
        return cls(**read)
