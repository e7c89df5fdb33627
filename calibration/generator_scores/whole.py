"""Sound that came in stretches against the same latents decoded in one piece."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.generator_scores.streams import Stream
from models.errors import SettingError
from models.nets.codec import Codec
from models.nets.vocoder import LATE, Vocoder, unit_phases

__all__ = ["decode_whole", "pieces_difference", "streamed_difference"]

_LEAD = 25  # frames of silence before the first: what the memory of a new stream stands for


@torch.inference_mode()
def decode_whole(
    codec: Codec, vocoder: Vocoder, latents: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the sound, (640 n,), of latents (n, 32) that come after silence, in one piece."""
    quiet = codec.silence.expand(_LEAD, -1)
    frames = torch.cat([quiet, torch.from_numpy(np.ascontiguousarray(latents))])[None]
    mel = codec.scaled_mel(frames * codec.spread + codec.centre)
    blocks: NDArray[np.float32] = vocoder(mel).flatten(1)[0].numpy()
    return blocks[len(blocks) - len(latents) * (len(blocks) // frames.shape[1]) :]


def streamed_difference(codec: Codec, vocoder: Vocoder, stream: Stream) -> float:
    """Return the largest difference of a stream's sound to its latents decoded in one piece.

    Parameters
    ----------
    codec, vocoder
        Those of the generator.
    stream : Stream
        From the state before the first stretch on.

    Raises
    ------
    SettingError
        If the generator's state hides its latents.
    """
    whole = decode_whole(codec, vocoder, _latents(stream))
    heard = stream.sound[stream.delay_samples :]
    return float(np.max(np.abs(whole[: len(heard)] - heard)))


@torch.inference_mode()
def pieces_difference(codec: Codec, vocoder: Vocoder, stream: Stream) -> float:
    """Return the largest difference of latents decoded in a stream's stretches and in one piece.

    Both by torch, and in one piece the phases of each frame go on from what they were in the frame
    before it in the stretches: where what pulls a phase cancels it, the last bit decides which way
    it goes on, and `streamed_difference` tells of that.

    Parameters
    ----------
    codec, vocoder
        Those of the generator.
    stream : Stream

    Raises
    ------
    SettingError
        If the generator's state hides its latents.
    """
    frames = torch.from_numpy(np.ascontiguousarray(_latents(stream)))[None]
    past, begun = codec.decoder.initial_state(), vocoder.initial_state()
    memory, sounds, pulls = begun, [], []
    for part in torch.split(frames, stream.n_frames, dim=1):
        mel, past = codec.step(part, past)
        sound, pulled, memory = vocoder.traced(mel, memory)
        sounds.append(sound)
        pulls.append(pulled)
    pieces, pulled = torch.cat(sounds, dim=1), torch.cat(pulls, dim=1)
    mel, _ = codec.step(frames, codec.decoder.initial_state())
    correction, _ = vocoder.corrections(mel, begun[:-LATE])
    late = begun[-LATE:]
    _, here, _ = vocoder.synthesise(mel, correction, late, phases=unit_phases(pulled))
    whole, _, _ = vocoder.synthesise(mel, correction, late, phases=unit_phases(here))
    return float((whole - pieces).abs().max())


def _latents(stream: Stream) -> NDArray[np.float32]:
    if stream.latents is None:
        raise SettingError("The state of this generator does not show its latents.")
    return stream.latents
