"""The acoustic tokens of what was heard: of exactly the stretch of sound that a window answers to.

Nothing before or after the stretch is heard by the network that makes them, so that no neighbouring
window's sound is in a target. A step of tokens is 160 ms, eight bands each; a stretch that ends
within a step is held on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.data.dataset import Stimulus
from calibration.data.samples import Samples
from calibration.generated.networks import MelNetwork, generator_mel
from calibration.stimulus_sound import check_inside, find_stimulus, stimulus_sound
from models.errors import SettingError
from models.stretch import TOKENS_PER_STEP

__all__ = [
    "STEP_S",
    "AudioMaeTokens",
    "GeneratorTokens",
    "TokenSource",
    "rendered",
    "steps_of",
    "stretch_mel",
    "stretch_tokens",
]

STEP_S = 0.16
_RATE_HZ = 16_000
_STEP_FRAMES = 16
_STEP_SAMPLES = 2_560

Array = NDArray[np.float32]


class TokenSource(Protocol):
    """Makes tokens of a sound."""

    def tokens(self, pcm: NDArray[np.float32]) -> Array:
        """Return the tokens (8 n, 768) of a sound at 16 kHz, n steps of 160 ms that cover it."""
        ...


class GeneratorTokens:
    """The masked autoencoder of a generator folder, through ONNX Runtime.

    Parameters
    ----------
    folder : Path
        Of the generator.

    Raises
    ------
    FileError
        If it has no tokens.
    """

    def __init__(self, folder: Path) -> None:
        self._network = MelNetwork(folder, "tokens.onnx")

    def tokens(self, pcm: NDArray[np.float32]) -> Array:
        """Return the tokens of a sound."""
        return self._network.whole(pcm, _RATE_HZ, per_step=_STEP_FRAMES)


class AudioMaeTokens:
    """AudioMAE's encoder without masking, as C2F-LDM takes it: the first patches, time first.

    Parameters
    ----------
    encoder : models.nets.audiomae.AudioMaeEncoder
        In evaluation mode.
    last_blocks : int
        1: the last block's normed output; 3: the mean of the last three, which is what AudioLDM 2
        is conditioned on. C2F-LDM does not say which.
    """

    def __init__(self, encoder: Any, *, last_blocks: int = 1) -> None:
        from models.frontends.audiomae import AudioMaeFbank

        self._encoder, self._last_blocks = encoder, last_blocks
        self._front_end = AudioMaeFbank()

    def tokens(self, pcm: NDArray[np.float32]) -> Array:
        """Return the tokens of a sound of at most 10.24 s; what follows it is silence.

        Raises
        ------
        SettingError
            If it is longer.
        """
        import torch

        steps = -(-len(pcm) // _STEP_SAMPLES)
        if not 1 <= steps <= 64:
            raise SettingError(
                f"AudioMAE hears 10.24 s at once, got {len(pcm) / _RATE_HZ:g} s. Take shorter "
                "windows."
            )
        device = next(self._encoder.parameters()).device
        mel = torch.from_numpy(self._front_end(pcm))[None].to(device)
        with torch.inference_mode():
            found = self._encoder(mel, last_blocks=self._last_blocks)[0, 1:]
        return np.asarray(found[: TOKENS_PER_STEP * steps].float().cpu().numpy(), np.float32)


def steps_of(stretch_s: float, *, even: bool = False) -> int:
    """Return how many steps of tokens cover a stretch.

    Parameters
    ----------
    stretch_s : float
    even : bool
        Round up to an even number, as C2F-LDM's 208, 80 and 112 tokens for 4, 1.5 and 2 s are: two
        steps are 8 latent frames, which the full-size network can halve three times.
    """
    steps = max(1, int(np.ceil(stretch_s / STEP_S - 1e-6)))
    return steps + steps % 2 if even else steps


def rendered(samples: Samples, hop_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the sound begins and ends that each window renders, s in its stimulus.

    As long as the hop, in the middle of the stretch that the window answers to: as a bundle's
    windows follow one another live.
    """
    middle = (samples.start_s + samples.stop_s) / 2.0
    half = np.minimum(hop_s, samples.stop_s - samples.start_s) / 2.0
    return middle - half, middle + half


def stretch_tokens(
    source: TokenSource,
    stimuli: Mapping[str, Stimulus],
    names: Sequence[str],
    starts_s: ArrayLike,
    stops_s: ArrayLike,
    *,
    steps: int,
) -> Array:
    """Return the tokens of stretches of stimuli; each different one is computed once.

    Parameters
    ----------
    source : TokenSource
    stimuli : mapping of str to Stimulus
    names : sequence of str
        Stimulus of each window.
    starts_s, stops_s : arrays of shape (n,)
        Of its stretch, s from the start of the stimulus (`Samples.start_s`, `stop_s`).
    steps : int
        m; a shorter stretch is held on, a longer one cut.

    Returns
    -------
    tokens : array of shape (n, 8 steps, 768), float32

    Raises
    ------
    FileError
        If the sound of a stimulus cannot be read.
    SettingError
        If a stretch does not lie in its stimulus.
    """

    def make(pcm: NDArray[np.float32]) -> Array:
        rows = source.tokens(pcm)[: TOKENS_PER_STEP * steps]
        last = rows[-TOKENS_PER_STEP:]
        missing = steps - len(rows) // TOKENS_PER_STEP
        return np.concatenate([rows, *([last] * missing)])

    return _each(stimuli, names, starts_s, stops_s, make)


def stretch_mel(
    stimuli: Mapping[str, Stimulus],
    names: Sequence[str],
    starts_s: ArrayLike,
    stops_s: ArrayLike,
    *,
    steps: int,
) -> Array:
    """Return the log mel of stretches, (n, 16 steps, 64), held on or cut as `stretch_tokens`."""

    def make(pcm: NDArray[np.float32]) -> Array:
        mel = generator_mel(pcm, _RATE_HZ)[: _STEP_FRAMES * steps]
        return np.pad(mel, ((0, _STEP_FRAMES * steps - len(mel)), (0, 0)), mode="edge")

    return _each(stimuli, names, starts_s, stops_s, make)


def _each(
    stimuli: Mapping[str, Stimulus],
    names: Sequence[str],
    starts_s: ArrayLike,
    stops_s: ArrayLike,
    make: Any,
) -> Array:
    known: dict[tuple[str, int, int], Array] = {}
    sounds: dict[str, NDArray[np.float32]] = {}
    keys = []
    for name, start, stop in zip(names, np.asarray(starts_s), np.asarray(stops_s), strict=True):
        name = str(name)
        key = (name, round(float(start) * _RATE_HZ), round(float(stop) * _RATE_HZ))
        keys.append(key)
        if key in known:
            continue
        if name not in sounds:
            found = find_stimulus(stimuli, name)
            sounds = {name: stimulus_sound(found, sample_rate_hz=_RATE_HZ)}
        pcm = sounds[name]
        # The last stretch may end a little after a clip that is shorter than its timetable says.
        check_inside(name, float(stop), len(pcm) / _RATE_HZ)
        if key[1] < 0:
            raise SettingError(
                f"A stretch of {name!r} begins {-float(start):g} s before its sound. The onsets in "
                "the events and the sound files do not fit."
            )
        known[key] = make(pcm[key[1] : key[2]])
    return np.stack([known[key] for key in keys])
