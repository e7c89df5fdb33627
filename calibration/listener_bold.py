"""A simulated person in a scanner: voxels that follow sound through a known haemodynamic response.

The drive of a voxel is linear in what the cochlear bands do within each TR (their level and how
much it fluctuates), with preferences that change smoothly over the 20 x 10 x 10 voxels. The noise
is AR(1), alike in neighbouring voxels, with slow drifts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import gamma
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.cochlea import band_envelopes
from calibration.stimuli import SAMPLE_RATE_HZ, stimulus_sequence
from models.errors import SettingError

__all__ = [
    "BOLD_SHAPE",
    "DRIFT_PERIODS_S",
    "DRIFT_WIDTH_VOXELS",
    "BoldListener",
    "ar1_noise",
    "double_gamma_hrf",
    "slow_drift",
    "smooth_fields",
    "smoothing_matrix",
]

BOLD_SHAPE = (20, 10, 10)
_FINE_HZ = 4.0  # grid on which the response is convolved
_BASELINE, _NOISE, _DRIFT = 1_000.0, 8.0, 4.0  # scanner units: noise of 0.8 %
_AR1 = 0.4
DRIFT_PERIODS_S = (180.0, 420.0)
DRIFT_WIDTH_VOXELS = 2.5  # how far drifts are alike, standard deviation of a Gaussian


def double_gamma_hrf(t_s: NDArray[np.float64], *, peak_s: float = 5.0) -> NDArray[np.float64]:
    """Return the canonical haemodynamic response: peak near 5 s, undershoot near 15 s, unit sum.

    h(t) = g(t; p + 1) - g(t; p + 11) / 6 with g the gamma density of scale 1 s and p the time of
    its peak (Glover 1999's form; SPM's parameters for p = 5 s).

    Parameters
    ----------
    t_s : array
        Times after a short stimulus, s.
    peak_s : float
        When the first gamma density peaks, s; the undershoot is as much later.
    """
    t = np.maximum(np.asarray(t_s, np.float64), 0.0)
    rise = t**peak_s * np.exp(-t) / gamma(peak_s + 1.0)
    fall = t ** (peak_s + 10.0) * np.exp(-t) / gamma(peak_s + 11.0)
    response = rise - fall / 6.0
    return np.asarray(response / np.sum(response))


@dataclass(frozen=True, slots=True)
class BoldListener:
    """One simulated person; `person` fixes what each voxel prefers.

    Parameters
    ----------
    person : int
        Seed of the head.
    snr_db : float
        Mean power of the response over that of the noise (drifts left out), over the voxels that
        respond, for the library's mix of sounds. -inf: the brain does not hear.
    tr_s : float
        Time from volume to volume, s.
    n_bands : int
        Cochlear bands.
    responding : float
        Share of the voxels that respond at all.

    Raises
    ------
    SettingError
        If the TR or the share is not usable, or `snr_db` is NaN or +inf.
    """

    person: int
    snr_db: float = -6.0
    tr_s: float = 1.5
    n_bands: int = 16
    responding: float = 0.6

    def __post_init__(self) -> None:
        if not 0.25 <= self.tr_s <= 10.0 or not self.snr_db < np.inf:
            raise SettingError(
                "Simulated BOLD needs a TR of 0.25 to 10 s and a finite or -inf snr_db, got "
                f"{self.tr_s} s and {self.snr_db} dB."
            )
        if not 0.0 < self.responding <= 1.0:
            raise SettingError(f"responding is a share in (0, 1], got {self.responding}.")

    @property
    def n_voxels(self) -> int:
        """Voxels in the mask: all of the grid."""
        return int(np.prod(BOLD_SHAPE))

    def weights(self) -> NDArray[np.float64]:
        """Return what each voxel takes from each feature of the sound: the known truth.

        Returns
        -------
        weights : array of shape (2 * n_bands, n_voxels), float64
            First the levels of the bands, then their fluctuations.
        """
        rng = np.random.default_rng([self.person, 11])
        fields = smooth_fields(rng.standard_normal((2 * self.n_bands, *BOLD_SHAPE)), 1.5)
        amount = smooth_fields(rng.standard_normal((1, *BOLD_SHAPE)), 2.0).ravel()
        responds = amount >= np.quantile(amount, 1.0 - self.responding)
        return np.asarray(fields.reshape(2 * self.n_bands, -1) * responds)

    def drive(self, pcm: NDArray[np.float32], n_volumes: int) -> NDArray[np.float64]:
        """Return features of the sound through the HRF at each volume, unscaled."""
        envelopes = band_envelopes(
            pcm, sample_rate_hz=SAMPLE_RATE_HZ, rate_hz=100.0, n_bands=self.n_bands
        )
        step = round(100.0 / _FINE_HZ)
        n_fine = int(np.ceil(n_volumes * self.tr_s * _FINE_HZ)) + 1
        short = max(0, n_fine * step - len(envelopes))
        envelopes = np.pad(envelopes, ((0, short), (0, 0)))[: n_fine * step]
        pieces = envelopes.reshape(n_fine, step, self.n_bands)
        features = np.concatenate([pieces.mean(axis=1), 2.0 * pieces.std(axis=1)], axis=1)
        hrf = double_gamma_hrf(np.arange(round(32.0 * _FINE_HZ)) / _FINE_HZ)
        n_fft = int(2 ** np.ceil(np.log2(n_fine + len(hrf))))
        spectrum = np.fft.rfft(features, n_fft, axis=0) * np.fft.rfft(hrf, n_fft)[:, None]
        slow = np.fft.irfft(spectrum, n_fft, axis=0)[:n_fine]
        at = np.arange(n_volumes) * self.tr_s * _FINE_HZ  # start of the volume
        low = at.astype(np.int64)
        part = (at - low)[:, None]
        driven = (1.0 - part) * slow[low] + part * slow[np.minimum(low + 1, n_fine - 1)]
        return np.asarray(driven @ self.weights())

    def respond(self, pcm: NDArray[np.float32], n_volumes: int) -> NDArray[np.float64]:
        """Return the noise-free response, scanner units about the baseline.

        Parameters
        ----------
        pcm : array of shape (n,), float32
            Sound at 16 kHz; silence after its end.
        n_volumes : int
            Volumes, the first at the onset of the sound.

        Returns
        -------
        response : array of shape (n_volumes, 2000), float64
        """
        if self.snr_db == -np.inf:
            return np.zeros((n_volumes, self.n_voxels))
        wanted = _NOISE * 10.0 ** (self.snr_db / 20.0)
        return np.asarray(self.drive(pcm, n_volumes) * (wanted / _reference_rms(self)))

    def noise(self, n_volumes: int, seed: int) -> NDArray[np.float64]:
        """Return noise and drifts of a brain that hears nothing, shape (n_volumes, 2000)."""
        rng = np.random.default_rng([self.person, 12, seed])
        white = rng.standard_normal((n_volumes, *BOLD_SHAPE))
        innovations = 0.8 * smooth_fields(white, 1.0) + 0.6 * rng.standard_normal(white.shape)
        noise = ar1_noise(innovations.reshape(n_volumes, -1), _AR1)
        smooth = (
            smooth_fields(rng.standard_normal((2, *BOLD_SHAPE)), DRIFT_WIDTH_VOXELS)
            for _ in DRIFT_PERIODS_S
        )
        pairs = ((pair[0].ravel(), pair[1].ravel()) for pair in smooth)
        drift = slow_drift(pairs, np.arange(n_volumes) * self.tr_s)
        return np.asarray(_NOISE * noise + _DRIFT * drift)

    def record(
        self, pcm: NDArray[np.float32], *, seed: int, n_volumes: int | None = None
    ) -> NDArray[np.float32]:
        """Return the volumes while this person hears a sound.

        Returns
        -------
        volumes : array of shape (n_volumes, 2000), float32
            Scanner units, baseline 1,000.
        """
        if n_volumes is None:
            n_volumes = int(len(pcm) / SAMPLE_RATE_HZ / self.tr_s + 1e-9)
        response = self.respond(pcm, n_volumes)
        return (_BASELINE + response + self.noise(n_volumes, seed)).astype(np.float32)


@lru_cache(maxsize=8)
def _reference_rms(listener: BoldListener) -> float:
    """Return the RMS of the unscaled response of responding voxels to a fixed mix of all sounds."""
    mix = stimulus_sequence(0, 144.0, clip_s=6.0).pcm
    drive = listener.drive(mix, round(144.0 / listener.tr_s))
    changes = (drive - drive.mean(axis=0))[round(12.0 / listener.tr_s) :]
    return float(np.sqrt(np.mean(changes[:, np.any(changes != 0.0, axis=0)] ** 2)))


def ar1_noise(innovations: NDArray[Any], ar1: float) -> NDArray[Any]:
    """Return noise in which a volume correlates `ar1` with the next; variances stay.

    Parameters
    ----------
    innovations : array of shape (n_volumes, n_voxels)
        Independent in time; overwritten with the noise.
    ar1 : float
    """
    for k in range(1, len(innovations) if ar1 else 0):
        innovations[k] *= np.sqrt(1.0 - ar1**2)
        innovations[k] += ar1 * innovations[k - 1]
    return innovations


def slow_drift(
    fields: Iterable[tuple[NDArray[Any], NDArray[Any]]], t_s: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return drifts with periods of 3 and 7 min, of the variance of the fields.

    Parameters
    ----------
    fields : iterable of pairs of arrays of shape (n_voxels,)
        For each period the amount of its cosine and of its sine.
    t_s : array of shape (n_volumes,)

    Returns
    -------
    drift : array of shape (n_volumes, n_voxels), float64
    """
    drift = np.float64(0.0)
    for period_s, (cosine, sine) in zip(DRIFT_PERIODS_S, fields, strict=True):
        angle = 2.0 * np.pi * t_s[:, None] / period_s
        drift = drift + cosine * np.cos(angle) + sine * np.sin(angle)
    return np.asarray(drift / np.sqrt(len(DRIFT_PERIODS_S)))


def smooth_fields(fields: NDArray[Any], width_voxels: float) -> NDArray[Any]:
    """Return fields (n, x, y, z) smoothed by a Gaussian in space, each point at unit variance."""
    for axis, length in enumerate(fields.shape[1:], start=1):
        kernel = smoothing_matrix(length, width_voxels).astype(fields.dtype)
        fields = np.moveaxis(np.tensordot(kernel, fields, axes=(1, axis)), 0, axis)
    return fields


def smoothing_matrix(length: int, width_voxels: float) -> NDArray[np.float64]:
    """Return the Gaussian of `smooth_fields` along one axis; its rows have unit norm."""
    if width_voxels <= 0.0:
        return np.eye(length)
    place = np.arange(length)
    kernel = np.exp(-0.5 * ((place[:, None] - place) / width_voxels) ** 2)
    return np.asarray(kernel / np.linalg.norm(kernel, axis=1, keepdims=True))
