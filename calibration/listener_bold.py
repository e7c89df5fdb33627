"""A simulated person in a scanner: voxels that follow sound through a known haemodynamic response.

The drive of a voxel is linear in what the cochlear bands do within each TR (their level and how
much it fluctuates), with preferences that change smoothly over the 20 x 10 x 10 voxels. The noise
is AR(1), alike in neighbouring voxels, with slow drifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gamma

import numpy as np
from numpy.typing import NDArray

from calibration.cochlea import band_envelopes
from calibration.stimuli import SAMPLE_RATE_HZ, stimulus_sequence
from models.errors import SettingError

__all__ = ["BOLD_SHAPE", "BoldListener", "double_gamma_hrf"]

BOLD_SHAPE = (20, 10, 10)
_FINE_HZ = 4.0  # grid on which the response is convolved
_BASELINE, _NOISE, _DRIFT = 1_000.0, 8.0, 4.0  # scanner units: noise of 0.8 %
_AR1 = 0.4


def double_gamma_hrf(t_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the canonical haemodynamic response: peak near 5 s, undershoot near 15 s, unit sum.

    h(t) = g(t; 6) - g(t; 16) / 6 with g the gamma density of scale 1 s (Glover 1999's form with
    SPM's parameters).
    """
    t = np.maximum(np.asarray(t_s, np.float64), 0.0)
    response = t**5 * np.exp(-t) / gamma(6.0) - t**15 * np.exp(-t) / gamma(16.0) / 6.0
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
        fields = _smooth(rng.standard_normal((2 * self.n_bands, *BOLD_SHAPE)), 1.5)
        amount = _smooth(rng.standard_normal((1, *BOLD_SHAPE)), 2.0).ravel()
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
        innovations = (0.8 * _smooth(white, 1.0) + 0.6 * rng.standard_normal(white.shape)).reshape(
            n_volumes, -1
        )
        noise = np.empty_like(innovations)
        noise[0] = innovations[0]
        for k in range(1, n_volumes):
            noise[k] = _AR1 * noise[k - 1] + np.sqrt(1.0 - _AR1**2) * innovations[k]
        # Drifts with periods of 3 and 7 min, a phase for each voxel but smooth over the head.
        t = np.arange(n_volumes)[:, None] * self.tr_s
        drift = np.zeros_like(noise)
        for period_s in (180.0, 420.0):
            cosine, sine = _smooth(rng.standard_normal((2, *BOLD_SHAPE)), 2.5).reshape(2, -1)
            angle = 2.0 * np.pi * t / period_s
            drift += cosine * np.cos(angle) + sine * np.sin(angle)
        return np.asarray(_NOISE * noise + _DRIFT * drift / np.sqrt(2.0))

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


def _smooth(fields: NDArray[np.float64], width_voxels: float) -> NDArray[np.float64]:
    """Return fields (n, x, y, z) smoothed by a Gaussian in space, each point at unit variance."""
    for axis, length in enumerate(BOLD_SHAPE, start=1):
        place = np.arange(length)
        kernel = np.exp(-0.5 * ((place[:, None] - place) / width_voxels) ** 2)
        kernel /= np.linalg.norm(kernel, axis=1, keepdims=True)
        fields = np.moveaxis(np.tensordot(kernel, fields, axes=(1, axis)), 0, axis)
    return fields
