"""A simulated person with an EEG cap: known responses to sound, in noise like the real thing's.

Each of 16 cochlear bands drives four waves (P1, N1, P2 and a late one, 50 to 400 ms) and a
sustained shift, each with a pattern of its own over the 32 electrodes. The noise is 1/f, alike at
neighbouring electrodes, with alpha rhythm that waxes and wanes at the back of the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibration.cochlea import band_envelopes
from calibration.stimuli import SAMPLE_RATE_HZ, stimulus_sequence
from models.errors import SettingError

__all__ = ["EEG_CHANNELS", "EegListener"]

# The 32 electrodes of the common cap, with nose at +y and right ear at +x (unit disc).
_ELECTRODES: dict[str, tuple[float, float]] = {
    "Fp1": (-0.31, 0.95), "Fp2": (0.31, 0.95), "AF3": (-0.29, 0.74), "AF4": (0.29, 0.74),
    "F7": (-0.81, 0.59), "F3": (-0.45, 0.50), "Fz": (0.0, 0.48), "F4": (0.45, 0.50),
    "F8": (0.81, 0.59), "FC5": (-0.69, 0.27), "FC1": (-0.24, 0.24), "FC2": (0.24, 0.24),
    "FC6": (0.69, 0.27), "T7": (-1.0, 0.0), "C3": (-0.5, 0.0), "Cz": (0.0, 0.0),
    "C4": (0.5, 0.0), "T8": (1.0, 0.0), "CP5": (-0.69, -0.27), "CP1": (-0.24, -0.24),
    "CP2": (0.24, -0.24), "CP6": (0.69, -0.27), "P7": (-0.81, -0.59), "P3": (-0.45, -0.50),
    "Pz": (0.0, -0.48), "P4": (0.45, -0.50), "P8": (0.81, -0.59), "PO3": (-0.29, -0.74),
    "PO4": (0.29, -0.74), "O1": (-0.31, -0.95), "Oz": (0.0, -1.0), "O2": (0.31, -0.95),
}  # fmt: skip
EEG_CHANNELS = tuple(_ELECTRODES)
_PLACES = np.array(list(_ELECTRODES.values()))

# Waves of the response: peak (s), width (s, one standard deviation), sign and size.
_WAVES = ((0.06, 0.014, 1.0), (0.11, 0.022, -1.6), (0.19, 0.040, 1.3), (0.30, 0.055, -0.7))
_SUSTAINED = -0.35  # a shift that lasts as long as the sound, 80 to 400 ms after it
_NOISE_V, _ALPHA_V, _SENSOR_V = 14e-6, 8e-6, 1e-6  # RMS


@dataclass(frozen=True, slots=True)
class EegListener:
    """One simulated person; `person` fixes where and how strongly each band and wave is seen.

    Parameters
    ----------
    person : int
        Seed of the head: two persons have different patterns.
    snr_db : float
        Mean power of the response over that of the noise, all electrodes and frequencies
        together, for the library's mix of sounds. -inf: the brain does not hear.
    sfreq_hz : float
        Of the recording.
    n_bands : int
        Cochlear bands.

    Raises
    ------
    SettingError
        If the rate is below 100 Hz (the response has frequencies up to 15 Hz, the alpha rhythm
        up to 13 Hz, with room for filters) or `snr_db` is NaN or +inf.
    """

    person: int
    snr_db: float = 0.0
    sfreq_hz: float = 250.0
    n_bands: int = 16

    def __post_init__(self) -> None:
        if not self.sfreq_hz >= 100.0 or not self.snr_db < np.inf:
            raise SettingError(
                "A simulated EEG needs sfreq_hz >= 100 and a finite or -inf snr_db, got "
                f"{self.sfreq_hz} Hz and {self.snr_db} dB."
            )

    def response_functions(self) -> NDArray[np.float64]:
        """Return the temporal response functions: the known truth, to an arbitrary scale.

        Returns
        -------
        kernels : array of shape (n_lags, n_bands, 32), float64
            Response of each electrode `lag / sfreq_hz` after a unit impulse in each band.
        """
        t = np.arange(round(0.45 * self.sfreq_hz)) / self.sfreq_hz
        rng = np.random.default_rng([self.person, 1])
        kernels = np.zeros((len(t), self.n_bands, len(EEG_CHANNELS)))
        tonotopy = np.linspace(-1.0, 1.0, self.n_bands)[:, None]
        for peak_s, width_s, size in _WAVES:
            # A shift of the latency for the person and, low to high bands, 15 ms of travel.
            peaks = peak_s * (1.0 + 0.08 * rng.standard_normal()) - 0.0075 * tonotopy
            wave = size * np.exp(-0.5 * ((t - peaks) / width_s) ** 2) / width_s  # (bands, lags)
            kernels += wave.T[:, :, None] * self._patterns(rng)
        hold = (t >= 0.08) & (t < 0.40)
        kernels += hold[:, None, None] * (_SUSTAINED / 0.32) * self._patterns(rng)
        return kernels / self.sfreq_hz

    def _patterns(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return a pattern over the electrodes for each band: smooth over head and bands."""
        centre = np.array([0.0, 0.25]) + 0.15 * rng.standard_normal(2)
        common = np.exp(-np.sum((_PLACES - centre) ** 2, axis=1) / 0.8)
        smooth = _covariance_root(0.45)
        own = rng.standard_normal((self.n_bands, len(EEG_CHANNELS))) @ smooth.T
        distance = np.arange(self.n_bands)[:, None] - np.arange(self.n_bands)
        own = np.exp(-0.5 * (distance / 0.8) ** 2) @ own
        own /= np.sqrt(np.mean(own**2))
        return np.asarray(0.6 * common + 0.8 * own)

    def respond(self, pcm: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the noise-free response to a sound.

        Parameters
        ----------
        pcm : array of shape (n,), float32
            Sound at 16 kHz.

        Returns
        -------
        response : array of shape (round(n / 16000 * sfreq_hz), 32), float64
            V.
        """
        if self.snr_db == -np.inf:
            return np.zeros((round(len(pcm) / SAMPLE_RATE_HZ * self.sfreq_hz), len(EEG_CHANNELS)))
        noise_power = _NOISE_V**2 + _ALPHA_V**2 + _SENSOR_V**2
        wanted = np.sqrt(noise_power * 10.0 ** (self.snr_db / 10.0))
        return np.asarray(self.drive(pcm) * (wanted / _reference_rms(self)))

    def drive(self, pcm: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the response to a sound, not yet scaled to the SNR."""
        envelopes = band_envelopes(
            pcm, sample_rate_hz=SAMPLE_RATE_HZ, rate_hz=self.sfreq_hz, n_bands=self.n_bands
        )
        kernels = self.response_functions()
        n_fft = int(2 ** np.ceil(np.log2(len(envelopes) + len(kernels))))
        spectrum = np.einsum(
            "fb,fbc->fc", np.fft.rfft(envelopes, n_fft, axis=0), np.fft.rfft(kernels, n_fft, axis=0)
        )
        return np.asarray(np.fft.irfft(spectrum, n_fft, axis=0)[: len(envelopes)])

    def noise(self, n_samples: int, seed: int) -> NDArray[np.float64]:
        """Return what the electrodes show of a brain that hears nothing.

        Returns
        -------
        noise : array of shape (n_samples, 32), float64
            V; RMS about 16 uV.
        """
        rng = np.random.default_rng([self.person, 2, seed])
        n_channels = len(EEG_CHANNELS)
        frequency = np.fft.rfftfreq(n_samples, 1.0 / self.sfreq_hz)
        # 1/f in power above 0.5 Hz, level below: what an amplifier's high-pass leaves of drifts.
        shape = 1.0 / np.sqrt(np.maximum(frequency, 0.5))
        white = rng.standard_normal((n_samples, n_channels)) @ _covariance_root(0.6).T
        pink = _unit(np.fft.irfft(np.fft.rfft(white, axis=0) * shape[:, None], n_samples, axis=0))
        bell = np.exp(-0.5 * ((frequency - 10.2) / 0.8) ** 2)
        rhythm = np.fft.irfft(
            np.fft.rfft(rng.standard_normal((n_samples, 3)), axis=0) * bell[:, None],
            n_samples,
            axis=0,
        )
        centres = np.array([[-0.35, -0.8], [0.35, -0.8], [0.0, -0.5]])
        distance = np.sum((centres[:, None, :] - _PLACES) ** 2, axis=2)
        alpha = _unit(rhythm @ np.exp(-distance / 0.35))
        sensor = rng.standard_normal((n_samples, n_channels))
        return np.asarray(_NOISE_V * pink + _ALPHA_V * alpha + _SENSOR_V * sensor)

    def record(self, pcm: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
        """Return what the cap shows while this person hears a sound.

        Returns
        -------
        samples : array of shape (n_samples, 32), float32
            V.
        """
        response = self.respond(pcm)
        return (response + self.noise(len(response), seed)).astype(np.float32)


@lru_cache(maxsize=8)
def _reference_rms(listener: EegListener) -> float:
    """Return the RMS of the unscaled response to a fixed mix of all sounds.

    A fixed mix, not the sound at hand, so that loud clips stay larger than soft ones.
    """
    drive = listener.drive(stimulus_sequence(0, 36.0, clip_s=1.5).pcm)
    return float(np.sqrt(np.mean((drive - drive.mean(axis=0)) ** 2)))


def _covariance_root(reach: float) -> NDArray[np.float64]:
    """Return a root of the covariance exp(-d^2 / (2 reach^2)) between electrodes, plus 2 %."""
    distance = np.sum((_PLACES[:, None, :] - _PLACES) ** 2, axis=2)
    covariance = np.exp(-0.5 * distance / reach**2) + 0.02 * np.eye(len(_PLACES))
    return np.asarray(np.linalg.cholesky(covariance))


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values / np.sqrt(np.mean(values**2)))
