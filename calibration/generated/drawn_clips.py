"""The clips whose sound is generated to be scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.data.samples import Samples
from calibration.generated.scoring import SoundScoring
from calibration.plan import Plan

__all__ = ["clip_notes", "drawn_clips"]


def clip_notes(clips: Sequence[str], samples: Samples, plan: Plan) -> list[str]:
    """Return what a report must say of the clips whose sound is scored."""
    n = len(np.unique(samples.clip))
    said = []
    if len(clips) < n:
        said.append(f"Sound was generated for {len(clips)} of the {n} clips, drawn at random.")
    if plan.closed:
        said.append(
            "The sounds were known from training: their presentations are averaged, and each may "
            "begin from itself."
        )
    return said


def drawn_clips(samples: Samples, options: SoundScoring) -> list[str]:
    """Return the clips that are generated, in the order of their names."""
    clips = np.unique(samples.clip)
    if len(clips) > options.most_clips:
        rng = np.random.default_rng([options.seed, 512])
        clips = np.sort(rng.choice(clips, options.most_clips, replace=False))
    return [str(clip) for clip in clips]
