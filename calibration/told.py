"""A result in a few sentences, as the commands say it at their end."""

from __future__ import annotations

from collections.abc import Callable

from calibration.generated.scores import GeneratedScores
from calibration.report.result import Result

__all__ = ["told_result"]


def told_result(result: Result, say: Callable[[str], None]) -> None:
    """Say what it came to, the controls beside the score.

    Parameters
    ----------
    result : Result
    say : callable
        Takes one line after another.
    """
    scores = result.scores
    say(result.verdict)
    beside = {
        "chance": scores.get("chance"),
        "shuffled brain": scores.get("floor_shuffled"),
        "training mean": scores.get("floor_mean"),
        "clip before": scores.get("floor_previous_clip"),
        "ceiling": scores.get("ceiling"),
    }
    told = ", ".join(f"{name} {value:.3f}" for name, value in beside.items() if value is not None)
    say(f"Identification {scores['identification_ties_half']:.3f} beside: {told}.")
    if result.sound is not None:
        _sound(result.sound, say)
    say(f"Held out: {result.split}. The test was opened {result.facts['test_openings']} times.")
    for warning in (*result.notes, *result.warnings):
        say(f"Note: {warning}")


def _sound(sound: GeneratedScores, say: Callable[[str], None]) -> None:
    say("The generated sound, analysed again by another encoder (chance 0.5):")
    for row in sound.rows:
        p = "" if row.permutation_p is None else f", p = {row.permutation_p:.4f}"
        say(
            f"  {row.told}: {row.identification:.3f} (first of {row.n_way}: {row.top_1:.2f}, by "
            f"chance {1 / row.n_way:.2f}{p})"
        )
