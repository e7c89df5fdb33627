"""Conditions to sound without a clock: what a live session would play, as fast as it goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from stream.messages import Condition, FeatureWindow
from stream.render import Renderer

__all__ = ["nowhere", "render_conditions"]


def nowhere(seq: int) -> FeatureWindow:
    """Return a window that stands for one of no recording, number `seq`."""
    return FeatureWindow(np.zeros(0, np.float32), seq, 0, 1, 0.0, 0.0)


def render_conditions(
    renderer: Renderer, conditions: Sequence[Condition], *, each_s: float, least_s: float = 0.0
) -> NDArray[np.float32]:
    """Return the sound of conditions one after another.

    Parameters
    ----------
    renderer : Renderer
        At its beginning.
    conditions : sequence of Condition
    each_s : float
        How long each sounds, s; the last goes on until there are `least_s`.
    least_s : float

    Returns
    -------
    pcm : array of shape (n,), float32
        Without the renderer's delay.

    Raises
    ------
    SettingError
        If there is no condition.
    """
    if not conditions or not each_s > 0:
        raise SettingError(
            f"Sound is made of at least one condition that lasts, got {len(conditions)} of "
            f"{each_s:g} s."
        )
    rate = renderer.sample_rate_hz
    stops = [round((k + 1) * each_s * rate) for k in range(len(conditions))]
    stops[-1] = max(stops[-1], round(least_s * rate))
    late = round(renderer.delay_s * rate)
    stops[-1] += late
    parts, at = [], 0
    for condition, stop in zip(conditions, stops, strict=True):
        parts.append(np.asarray(renderer.render(condition, stop - at), np.float32))
        at = stop
    return np.concatenate(parts)[late:]
