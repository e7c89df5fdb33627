"""Whom the demo simulates: the same person for the bundles and for the demo that plays them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BOLD", "EEG", "DemoRecipe"]


@dataclass(frozen=True, slots=True)
class DemoRecipe:
    """What is simulated for a demo bundle, and in the demo."""

    snr_db: float  # of the listener: see `EegListener` and `BoldListener`
    clip_s: float  # length of a sound
    train_s: float  # calibration
    test_s: float  # held out, for the scores in the manifest
    person: int = 1


# Cleaner than most real recordings, so that half a minute is enough to hear that it works.
EEG = DemoRecipe(snr_db=-3.0, clip_s=3.0, train_s=720.0, test_s=120.0)
BOLD = DemoRecipe(snr_db=-6.0, clip_s=7.5, train_s=1_350.0, test_s=360.0)
