"""Mel frames to sound as they come: streaming phase recovery with a few frames of look-ahead.

RTISI-LA (Zhu, Beauregard & Wyse 2007, IEEE TASLP 15(5): 1645-1653): the newest frames are refined
together, against the sound that the frames before them have already made; then the oldest of them
is committed. Two additions, measured on speech, music and noises: the momentum of fast Griffin-Lim
(Perraudin, Balazs & Sondergaard 2013), and magnitudes that are free within a mel band as long as
the band keeps its level, which the mel frames ask for and the smooth first guess does not give.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.mel import MelSpec, hann, mel_basis, mel_levels, mel_to_magnitude

__all__ = ["PhaseRecovery"]

_MOMENTUM = 0.8
_MEL_SHARE = 0.5  # share of the band-corrected magnitude in the next guess
_MAX_GAIN = 10.0  # of that correction: a band that is empty so far must not explode
_EMPTY = 1e-12  # magnitude without a phase


class PhaseRecovery:
    """Turn log mel frames into sound, frame by frame, without a break between calls.

    A frame makes `hop` samples. The sound is `delay_samples` behind the frames: what was at sample
    s of the sound that `log_mel` saw comes out at sample s + delay_samples. Frames at the mel floor
    are silence, and come out as exact zeros once the sound before them has faded (n_fft samples).
    The start and the end fade in and out with the frames' window, so there is no click. To let a
    sound end, go on with frames at ln(spec.floor).

    The same frames give the same samples, bit for bit, however they are cut into calls.

    Parameters
    ----------
    spec : MelSpec
    look_ahead : int
        Frames known beyond the one that is committed; each costs `hop` samples of delay.
    iterations : int
        Refinements for each new frame.

    Raises
    ------
    SettingError
        If a setting is out of range, or frames overlap by less than half.
    """

    def __init__(self, spec: MelSpec, *, look_ahead: int = 3, iterations: int = 8) -> None:
        if look_ahead < 0 or iterations < 1:
            raise SettingError(
                f"Expected look_ahead of 0 or more and iterations of 1 or more, got {look_ahead} "
                f"and {iterations}."
            )
        if 2 * spec.hop > spec.n_fft:
            raise SettingError(
                f"Expected frames that overlap by half or more, got n_fft {spec.n_fft} and hop "
                f"{spec.hop}."
            )
        self.spec = spec
        self.look_ahead = look_ahead
        self.iterations = iterations
        n_frames, n_bins = look_ahead + 1, spec.n_fft // 2 + 1
        length = spec.n_fft + look_ahead * spec.hop
        self._window = hann(spec.n_fft)
        self._basis = mel_basis(spec)  # (n_mels, n_bins)
        column = self._basis.sum(axis=0)
        # Gain of each bin from those of its bands; bins outside all bands get none.
        self._share = self._basis / np.where(column > 0, column, 1.0)
        # Squared windows of all frames up to the newest one: what their overlap-add is divided by.
        # Its end, where only the newest frame's window is left, is small and kept from zero.
        overlap = _overlap(spec, np.arange(length), newest=look_ahead)
        self._inverse = 1.0 / np.maximum(overlap, 1e-3)
        self._inverse_full = 1.0 / _overlap(spec, np.arange(spec.hop), newest=spec.n_fft)
        # Refine magnitudes in every second iteration, not in the first ones, and in the last.
        self._corrects = [
            k >= iterations // 3 and (iterations - 1 - k) % 2 == 0 for k in range(iterations)
        ]
        # Phases of what starts out of silence, where the past gives none: scattered, as equal ones
        # would pile up to a click; fixed, so that a run repeats exactly.
        angle = np.random.default_rng(20070701).uniform(0.0, 2.0 * np.pi, n_bins)
        self._scattered = np.exp(1j * angle)
        self._past = np.zeros(length)  # overlap-add of the committed frames
        self._sum = np.zeros(length)
        # The frames of `_sum`, as a view.
        self._frames = np.lib.stride_tricks.as_strided(
            self._sum,
            (n_frames, spec.n_fft),
            (spec.hop * self._sum.itemsize, self._sum.itemsize),
            writeable=False,
        )
        self._levels = np.zeros((n_frames, spec.n_mels))
        self._magnitude = np.zeros((n_frames, n_bins))
        self._phase = np.ones((n_frames, n_bins), dtype=np.complex128)
        self._segments = np.zeros((n_frames, spec.n_fft))
        self._spectrum = np.zeros((n_frames, n_bins), dtype=np.complex128)
        self.reset()

    @property
    def delay_samples(self) -> int:
        """Samples by which the sound is behind the frames."""
        return self.look_ahead * self.spec.hop + self.spec.pad_samples

    def reset(self) -> None:
        """Forget all frames. What comes next starts from silence."""
        self._past[:] = 0.0
        self._levels[:] = 0.0
        self._magnitude[:] = 0.0
        self._phase[:] = 1.0

    def step(self, mel: ArrayLike) -> NDArray[np.float32]:
        """Take the next log mel frames and return as many hops of sound.

        Parameters
        ----------
        mel : array of shape (n, n_mels)
            As `log_mel` makes them; NaN counts as silence.

        Returns
        -------
        pcm : array of shape (n * hop,), float32
            Finite; not limited to full scale.

        Raises
        ------
        SettingError
            If the number of bands is wrong.
        """
        frames = np.asarray(mel, dtype=np.float64)
        if frames.ndim != 2 or frames.shape[1] != self.spec.n_mels:
            raise SettingError(
                f"Expected mel frames of shape (n, {self.spec.n_mels}), got {frames.shape}."
            )
        hop = self.spec.hop
        pcm = np.zeros(len(frames) * hop, dtype=np.float32)
        for index in range(len(frames)):
            # One by one: a product over several frames at once is rounded differently.
            self._take(frames[index : index + 1])
            if self._magnitude.any():
                self._refine()
                self._past[: self.spec.n_fft] += self._segments[0]
            pcm[index * hop : (index + 1) * hop] = self._past[:hop] * self._inverse_full
            self._past[:-hop] = self._past[hop:].copy()
            self._past[-hop:] = 0.0
        return pcm

    def _take(self, frame: NDArray[np.float64]) -> None:
        """Move all frames up by one and add the newest, its phase guessed from the past."""
        for rows in (self._levels, self._magnitude, self._phase):
            rows[:-1] = rows[1:].copy()
        self._levels[-1] = mel_levels(frame[0], self.spec)
        self._magnitude[-1] = (
            mel_to_magnitude(frame, self.spec)[0] if self._levels[-1].any() else 0.0
        )
        self._phase[-1] = 0.0
        if not self._magnitude[-1].any():
            return
        self._synthesise()  # the newest adds nothing yet
        guess = np.fft.rfft(self._frames[-1] * self._window)
        size = np.abs(guess)
        self._phase[-1] = np.where(size > _EMPTY, guess / np.maximum(size, _EMPTY), self._scattered)

    def _refine(self) -> None:
        """Bring the frames not yet committed in line with each other and with the past."""
        previous = np.zeros_like(self._spectrum)
        for number, corrects in enumerate(self._corrects):
            self._synthesise()
            np.multiply(self._frames, self._window, out=self._segments)
            spectrum = np.fft.rfft(self._segments)  # (frames, bins)
            if corrects:
                self._correct(np.abs(spectrum))
            pushed = spectrum
            if number:
                pushed = spectrum + _MOMENTUM * (spectrum - previous)
            previous = spectrum
            size = np.abs(pushed)
            np.divide(pushed, np.maximum(size, _EMPTY), out=self._phase)
        self._synthesise()

    def _synthesise(self) -> None:
        """Add the windowed frames to the past, and divide by what their windows add up to."""
        np.multiply(self._magnitude, self._phase, out=self._spectrum)
        np.fft.irfft(self._spectrum, out=self._segments)
        self._segments *= self._window
        self._sum[:] = self._past
        for index, segment in enumerate(self._segments):
            at = index * self.spec.hop
            self._sum[at : at + self.spec.n_fft] += segment
        self._sum *= self._inverse

    def _correct(self, size: NDArray[np.float64]) -> None:
        """Move the magnitudes towards those of the sound, each band set to its level."""
        gain = self._levels / np.maximum(size @ self._basis.T, _EMPTY)  # (frames, n_mels)
        wanted = size * np.minimum(gain @ self._share, _MAX_GAIN)
        self._magnitude += _MEL_SHARE * (wanted - self._magnitude)


def _overlap(spec: MelSpec, at: NDArray[np.int64], *, newest: int) -> NDArray[np.float64]:
    """Sum of the squared windows of all frames up to `newest`, at samples counted from frame 0."""
    total = np.zeros(len(at))
    squared = hann(spec.n_fft) ** 2
    for frame in range(-(spec.n_fft // spec.hop) - 1, newest + 1):
        place = at - frame * spec.hop
        inside = (place >= 0) & (place < spec.n_fft)
        total[inside] += squared[place[inside]]
    return total
