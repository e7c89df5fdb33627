"""From a condition to the arrays that a stretch is computed from, with every shape checked.

The same for torch and for exported graphs, so that the two cannot understand a condition in two
ways.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.stretch import (
    CONDITION_DIM,
    TOKEN_DIM,
    TOKEN_FRAMES,
    TOKENS_PER_STEP,
    GeneratorInput,
    GeneratorSpec,
)

__all__ = ["check_length", "check_noise", "check_state", "frame_tokens", "stretch_arrays", "times"]

_SPEECH_TOKENS = 512
_UNIT = 1e-2

Array = NDArray[np.float32]


def stretch_arrays(
    given: GeneratorInput, spec: GeneratorSpec, *, n_frames: int, silence: Array
) -> dict[str, Array]:
    """Return the inputs of a stretch that come from its condition, batch 1, by name.

    Parameters
    ----------
    given : GeneratorInput
    spec : GeneratorSpec
        Its `conditions` and `startable` say which inputs there are: of "vector", "tokens", "start"
        and "times".
    n_frames : int
        One of `spec.stretches`.
    silence : array of shape spec.latent
        What `start` holds where nothing is given.

    Returns
    -------
    arrays : dict
        `vector` (1, 512) and `tokens` (1, n, 768): zeros where the small generators are given none.
        `start` (1, n_frames + held, ...) and `times`, see `times`.

    Raises
    ------
    SettingError
        If a part has another shape than `GeneratorInput` says, is not finite or not of unit
        length, is needed and missing, or is not taken.
    """
    check_length(n_frames, spec)
    arrays: dict[str, Array] = {}
    for name in ("vector", "tokens"):
        value: Array | None = getattr(given, name)
        if name not in spec.conditions:
            if value is not None:
                raise SettingError(
                    f"A {spec.family} generator is conditioned on {' and '.join(spec.conditions)}; "
                    f"it was given {name}. Leave that out, or choose another generator."
                )
        elif name == "vector":
            arrays[name] = _vector(value, spec)
        else:
            arrays[name] = _tokens(value, spec, n_frames)
    if spec.startable:
        arrays["start"] = _start(given, spec, n_frames, silence)
        arrays["times"] = times(spec.steps, given.strength)
    elif given.start is not None or given.strength != 1.0:
        raise SettingError(
            f"This {spec.family} generator cannot begin from a sound. Give no start and leave the "
            "strength at 1."
        )
    return arrays


def times(steps: int, strength: float) -> Array:
    """Return the moments of a sampler that begins where 1 - strength of a sound stands.

    Parameters
    ----------
    steps : int
    strength : float
        1: from noise. 0: the sound stays as it is.

    Returns
    -------
    times : array of shape (steps + 1,), float32
        Rising to 1, equally far apart.

    Raises
    ------
    SettingError
        If the strength is not from 0 to 1.
    """
    if not 0.0 <= strength <= 1.0:
        raise SettingError(f"The strength of a start is 0 to 1, got {strength}.")
    return np.linspace(1.0 - strength, 1.0, steps + 1, dtype=np.float32)


def frame_tokens(tokens: Array, n_frames: int) -> Array:
    """Return one vector for each latent frame: the mean over the bands, for the frames it covers.

    Parameters
    ----------
    tokens : array of shape (8 n, 768)
        In order of time, then of band.
    n_frames : int
        Longer ones are cut; where they end before it, the last step goes on.

    Returns
    -------
    frames : array of shape (n_frames, 768)
    """
    steps = tokens.reshape(-1, TOKENS_PER_STEP, tokens.shape[-1]).mean(axis=1)
    places = np.minimum(np.arange(n_frames) // TOKEN_FRAMES, len(steps) - 1)
    return np.asarray(steps[places], np.float32)


def check_length(n_frames: int, spec: GeneratorSpec) -> None:
    """Refuse a length that is not made.

    Raises
    ------
    SettingError
        If `n_frames` is not one of `spec.stretches`.
    """
    if n_frames not in spec.stretches:
        known = ", ".join(str(length) for length in spec.stretches)
        raise SettingError(
            f"This generator makes stretches of {known} latent frames, got {n_frames}. Put longer "
            "ones together of these."
        )


def check_noise(noise: Array, expected: tuple[int, ...]) -> Array:
    """Return the noise as float32.

    Raises
    ------
    SettingError
        If it has another shape than `noise_shape` says.
    """
    if noise.shape != expected:
        raise SettingError(f"This stretch takes noise of shape {expected}, got {noise.shape}.")
    return np.asarray(noise, np.float32)


def check_state(state: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse the state of another generator.

    Raises
    ------
    SettingError
        If names or shapes are not those of `initial_state`.
    """
    came = {name: tuple(value.shape) for name, value in state.items()}
    if came == dict(expected):
        return
    wrong = sorted(
        name for name in came.keys() | expected.keys() if came.get(name) != expected.get(name)
    )
    raise SettingError(
        f"The state is that of another generator: {wrong[0]!r} should have the shape "
        f"{expected.get(wrong[0])}, got {came.get(wrong[0])}. Begin with initial_state()."
    )


def _vector(value: Array | None, spec: GeneratorSpec) -> Array:
    if value is None:
        if spec.family != "small":
            raise SettingError(
                f"A {spec.family} generator needs a vector of {CONDITION_DIM}. Decode one."
            )
        return np.zeros((1, CONDITION_DIM), np.float32)
    if value.shape != (CONDITION_DIM,):
        raise SettingError(f"The vector of a condition is ({CONDITION_DIM},), got {value.shape}.")
    length = float(np.linalg.norm(value))
    if not abs(length - 1.0) < _UNIT:  # NaN too
        raise SettingError(
            f"The vector of a condition has length 1, got {length:g}. Divide it by its length."
        )
    return np.asarray(value, np.float32)[np.newaxis]


def _tokens(value: Array | None, spec: GeneratorSpec, n_frames: int) -> Array:
    small = spec.family == "small"
    if value is None:
        if not small:
            raise SettingError(f"A {spec.family} generator needs tokens. Decode some.")
        return np.zeros((1, n_frames + spec.held, TOKEN_DIM), np.float32)
    if (
        value.ndim != 2
        or value.shape[1] != TOKEN_DIM
        or len(value) % TOKENS_PER_STEP
        or not len(value)
    ):
        raise SettingError(f"Tokens are ({TOKENS_PER_STEP} n, {TOKEN_DIM}), got {value.shape}.")
    if not np.isfinite(value).all():
        raise SettingError("Tokens of the condition have values that are not finite.")
    if small:
        return frame_tokens(value, n_frames + spec.held)[np.newaxis]
    if spec.family == "audioldm2":
        return _pooled(value)[np.newaxis]
    if len(value) != _SPEECH_TOKENS:
        raise SettingError(
            f"A {spec.family} generator takes {_SPEECH_TOKENS} tokens (10.24 s), got {len(value)}."
        )
    return np.asarray(value, np.float32)[np.newaxis]


def _pooled(tokens: Array) -> Array:
    """Return 8 tokens: those, or mean and maximum of equal pieces of time, over all bands.

    The mean of the two poolings is AudioLDM 2's (arXiv:2308.05734, section 3.2).
    """
    steps = len(tokens) // TOKENS_PER_STEP
    if steps == 1:
        return np.asarray(tokens, np.float32)
    if steps % 8:
        raise SettingError(
            "AudioLDM 2 takes 8 pooled tokens, or a multiple of 8 steps of time to pool, got "
            f"{steps} steps."
        )
    pieces = tokens.reshape(8, -1, tokens.shape[-1])
    return np.asarray((pieces.mean(axis=1) + pieces.max(axis=1)) / 2.0, np.float32)


def _start(given: GeneratorInput, spec: GeneratorSpec, n_frames: int, silence: Array) -> Array:
    expected = (n_frames + spec.held, *spec.latent)
    if given.start is None:
        if given.strength != 1.0:
            raise SettingError(
                f"A strength of {given.strength} begins from a sound, and none is given. Give its "
                "latents as start, or set the strength to 1."
            )
        return np.ascontiguousarray(np.broadcast_to(silence, (1, *expected)), np.float32)
    if given.start.shape != expected or not np.isfinite(given.start).all():
        raise SettingError(
            f"The start of a stretch of {n_frames} frames is {expected}, all finite, got "
            f"{given.start.shape}."
        )
    return np.asarray(given.start, np.float32)[np.newaxis]
