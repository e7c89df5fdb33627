"""Log mel frames to sound: Vocos in one dimension, causal, around a magnitude that the mel gives.

A frame of the network is a correction of the magnitudes that the mel bands stand for (the prior of
FreeV, arXiv:2406.08196, section 3.1) and what becomes of the phase of each bin; an inverse DFT,
written as a matrix product so that it exports, and overlap-add make the sound. Silent bands have a
prior of 0: silence in, exact silence out.

Phases have a memory. A network that is the same at all times and gives phases themselves answers
steady frames by a steady spectrum, so by a sound of period `HOP`: a steady tone would come out as
multiples of 100 Hz. Here it says by how much the phase of a bin turns from frame to frame, and
pulls it towards a value where something begins (as an oscillator is locked by injection, Adler
1946): a strong pull sets the phase, no pull lets it run on.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.mel import MelSpec, hann, mel_basis
from models.nets.codec import N_MELS, from_log, to_log
from models.nets.streaming import CausalConv, ConvNeXt, RmsNorm, State, Streamed

__all__ = ["AHEAD", "HOP", "LATE", "N_FFT", "Vocoder", "unit_phases"]

HOP = 160
N_FFT = 640
_BINS = N_FFT // 2 + 1
_OVERLAP = N_FFT // HOP
AHEAD = 4  # mel frames that the first convolution sees of the future
LATE = 3  # parts of the state that are not of convolutions


class Vocoder(Streamed):
    """Scaled mel frames, (batch, frames, 64), to blocks of sound, (batch, frames, 160).

    Block j holds samples 160 j to 160 j + 159; mel frame m is centred on sample 160 m.

    Parameters
    ----------
    width, depth : int
        Channels inside and blocks.
    """

    # 40 ms by the first convolution, 20 ms because a sample is whole when its last window has come
    lookahead = AHEAD + _OVERLAP // 2

    prior: Tensor
    synthesis: Tensor
    turn: Tensor

    def __init__(self, *, width: int, depth: int) -> None:
        super().__init__()
        self.enter = CausalConv(N_MELS, width, 2 * AHEAD + 1)
        self.blocks = nn.ModuleList(ConvNeXt(width, expansion=3, depth=depth) for _ in range(depth))
        self.norm = RmsNorm(width)
        self.leave = nn.Linear(width, 4 * _BINS)
        with torch.no_grad():  # at first no correction, and each bin turns at its own frequency
            self.leave.weight[: 2 * _BINS].zero_()
            self.leave.bias[: 2 * _BINS].zero_()
        # Fixed by the front-end, so not among the weights that are stored.
        self.register_buffer("prior", torch.from_numpy(_prior_basis()), persistent=False)
        self.register_buffer("synthesis", torch.from_numpy(_synthesis_basis()), persistent=False)
        turns = torch.arange(_BINS) * (HOP / N_FFT) % 1.0
        self.register_buffer("turn", 2.0 * torch.pi * turns, persistent=False)

    def initial_state(self, batch: int = 1) -> State:
        """Return the state after silence: of convolutions, magnitudes, overlap-add and phases."""
        device = self.prior.device
        return [
            *super().initial_state(batch),
            torch.zeros(batch, AHEAD, _BINS, device=device),
            torch.zeros(batch, _OVERLAP - 1, N_FFT, device=device),
            torch.zeros(batch, 2, _BINS, device=device),
        ]

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return (batch, frames, 160) for scaled mel x, (batch, frames, 64), and the state."""
        sound, _, after = self.traced(x, state)
        return sound, after

    def traced(
        self, x: Tensor, state: State, *, phases: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """Return as `run` does, and how the phases of all frames were pulled; see `synthesise`."""
        correction, after = self.corrections(x, state[:-LATE])
        sound, pulled, late = self.synthesise(x, correction, state[-LATE:], phases=phases)
        return sound, pulled, [*after, *late]

    def corrections(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return log gain, turn, real and imaginary pull of all bins, (batch, frames, 4 * 321)."""
        after: State = []
        h, past = self.enter(x, state[0])
        after.append(past)
        for block, past in zip(self.blocks, state[1:], strict=True):
            h, past = block(h, past)
            after.append(past)
        return self.leave(self.norm(h)), after

    def synthesise(
        self, x: Tensor, correction: Tensor, state: State, *, phases: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """Return sound, phases as they were pulled, and the state; to be called in full precision.

        Parameters
        ----------
        x : Tensor of shape (batch, frames, 64)
            Scaled mel.
        correction : Tensor of shape (batch, frames, 4 * 321)
        state : list of Tensor
            The last `LATE` parts.
        phases : Tensor of shape (batch, frames, 2, 321), optional
            What phases were elsewhere: sounded, and gone on from, in place of those found here.

        Returns
        -------
        sound : Tensor of shape (batch, frames, 160)
        pulled : Tensor of shape (batch, frames, 2, 321)
            Turned and pulled, before their length is made 1 (`unit_phases`).
        state : list of Tensor
        """
        level, _, real, imaginary = correction.float().chunk(4, dim=-1)
        # The correction of a frame comes when the convolution has seen what follows it.
        prior = torch.cat([state[0], self.magnitudes(x)], dim=1)
        magnitude = prior[:, : x.shape[1]] * torch.exp(level.clamp(-8.0, 4.0))
        pull = torch.stack([real, imaginary], dim=2)
        pulled, phases = _run_on(state[2], self.turns(correction), pull, phases)
        spectrum = (magnitude.unsqueeze(2) * phases).flatten(2)  # (batch, frames, 2 * 321)
        frames = torch.cat([state[1], spectrum @ self.synthesis], dim=1)
        parts = frames.reshape(len(x), -1, _OVERLAP, HOP)  # (batch, 3 + time, 4, 160)
        last = parts.shape[1]
        sound = parts[:, _OVERLAP - 1 :, 0]
        for back in range(1, _OVERLAP):
            sound = sound + parts[:, _OVERLAP - 1 - back : last - back, back]
        late = [prior[:, x.shape[1] :], frames[:, x.shape[1] :], phases[:, -1]]
        return sound, pulled, late

    def turns(self, correction: Tensor) -> Tensor:
        """Return radians by which the phases of bins run on, (batch, frames, 321)."""
        return correction.float().chunk(4, dim=-1)[1] + self.turn

    def magnitudes(self, x: Tensor) -> Tensor:
        """Return STFT magnitudes, (batch, frames, 321), that scaled mel frames stand for."""
        # A little more than the floor, which float32 logarithms return only to 1e-6.
        levels = torch.exp(to_log(x).clamp(max=6.0)) - 1e-5 * (1.0 + 1e-4)
        return levels.clamp(min=0.0) @ self.prior

    def sound(self, mel: Tensor) -> Tensor:
        """Return the whole sound, (batch, 160 frames), of log mel frames (batch, frames, 64)."""
        blocks: Tensor = self(from_log(mel))
        return blocks.flatten(1)


def unit_phases(pulled: Tensor) -> Tensor:
    """Return phases, (batch, frames, 2, bins), with their length made 1."""
    return pulled / torch.sqrt(pulled.square().sum(2, keepdim=True) + 1e-6)


def _run_on(
    phase: Tensor, turn: Tensor, pull: Tensor, given: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the phases of frames one after another, as points on the unit circle.

    Parameters
    ----------
    phase : Tensor of shape (batch, 2, bins)
        Of the frame before; real parts, then imaginary ones.
    turn : Tensor of shape (batch, frames, bins)
        Radians by which it runs on.
    pull : Tensor of shape (batch, frames, 2, bins)
        Added before the length is made 1.
    given : Tensor of shape (batch, frames, 2, bins), optional
        Phases to be taken in place of those found.

    Returns
    -------
    pulled : Tensor of shape (batch, frames, 2, bins)
        Before their length is made 1.
    phases : Tensor of shape (batch, frames, 2, bins)
        No gradient goes from frame to frame: through dozens of turns it would grow to many times
        what the frames themselves give, and drown it.
    """
    cosine, sine = torch.cos(turn), torch.sin(turn)
    # The matrix that turns real and imaginary part of a bin: (batch, frames, 2, 2, bins).
    batch, frames, bins = turn.shape
    rotation = torch.stack([cosine, -sine, sine, cosine], dim=2)
    rotation = rotation.reshape(batch, frames, 2, 2, bins)
    phase = phase.unsqueeze(1)
    if given is not None:
        before = torch.cat([phase, given[:, :-1]], dim=1)
        return pull + (rotation * before.unsqueeze(2)).sum(3), given
    pulled, phases = [], []
    for turned, towards in zip(rotation.chunk(frames, 1), pull.chunk(frames, 1), strict=True):
        pulled.append(towards + (turned * phase.detach().unsqueeze(2)).sum(3))
        phase = unit_phases(pulled[-1])
        phases.append(phase)
    return torch.cat(pulled, dim=1), torch.cat(phases, dim=1)


def _prior_basis() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Share of each mel level in each bin, (64, 321): mean of the bands above it.

    The mel front-end looks through 1024 samples, the synthesis through 640: a tone is 640/1024
    times as high there, noise sqrt(640/1024) times; between the two lies the factor .7.
    """
    wide = mel_basis(MelSpec()).sum(axis=1, keepdims=True)  # bands -> mean magnitude
    narrow = mel_basis(MelSpec(n_fft=N_FFT))  # (64, 321)
    column = np.maximum(narrow.sum(axis=0), 1e-12)
    return np.asarray(0.7 * narrow / column / wide, np.float32)


def _synthesis_basis() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Inverse real DFT and synthesis window, (2 * 321, 640): real parts, then imaginary ones."""
    unit = np.eye(_BINS)
    rows = np.concatenate([np.fft.irfft(unit, N_FFT), np.fft.irfft(1j * unit, N_FFT)])
    # Squared Hann windows a quarter apart add up to 1.5. The window's middle is phase 0.
    return np.asarray(np.fft.fftshift(rows, axes=1) * hann(N_FFT) / 1.5, np.float32)
