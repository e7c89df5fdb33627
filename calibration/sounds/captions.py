"""Words for the factors of a sound, so that a caption says how it is as well as what it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from calibration.stimuli import Factors

__all__ = ["caption_with_factors", "factor_words"]

# (upper edge, word); the last word has no edge. Edges are near the quintiles of the library.
_PITCH = ((130.0, "very low"), (220.0, "low"), (450.0, "middle"), (1_200.0, "high"))
_TEMPO = ((75.0, "very slow"), (100.0, "slow"), (130.0, "moderate"), (200.0, "fast"))
_BRIGHTNESS = ((300.0, "very dark"), (700.0, "dark"), (1_500.0, "mellow"), (3_000.0, "bright"))
_LOUDNESS = ((-36.0, "very quiet"), (-30.0, "quiet"), (-24.0, "medium loud"), (-19.0, "loud"))
_DENSITY = ((1.5, "sparse"), (3.0, "loose"), (6.0, "busy"), (12.0, "dense"))
_TOP = ("very high", "very fast", "very bright", "very loud", "very dense")


def _word(value: float, edges: Sequence[tuple[float, str]], top: str) -> str:
    return next((word for edge, word in edges if value < edge), top)


def factor_words(factors: Factors) -> list[str]:
    """Return one phrase for each factor that the sound has, in the order of `Factors`."""
    phrases = (
        (factors.pitch_hz, _PITCH, _TOP[0], "{} pitch"),
        (factors.tempo_bpm, _TEMPO, _TOP[1], "{} tempo"),
        (factors.brightness_hz, _BRIGHTNESS, _TOP[2], "{}"),
        (factors.loudness_dbfs, _LOUDNESS, _TOP[3], "{}"),
        (factors.density_hz, _DENSITY, _TOP[4], "{}"),
    )
    return [
        form.format(_word(value, edges, top))
        for value, edges, top, form in phrases
        if math.isfinite(value)
    ]


def caption_with_factors(caption: str, factors: Factors, rng: np.random.Generator) -> str:
    """Return a caption followed by some of the words for its factors, in a random order.

    Each phrase is kept with probability 3/4, so that no wording can be relied on.

    Parameters
    ----------
    caption : str
        What is heard.
    factors : Factors
    rng : numpy.random.Generator
    """
    words = [word for word in factor_words(factors) if rng.uniform() < 0.75]
    return ", ".join([caption, *(words[int(i)] for i in rng.permutation(len(words)))])
