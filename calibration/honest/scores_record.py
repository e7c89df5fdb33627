"""The scores of a decoder as one record, and the plain sentence that they come to."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from calibration.json_values import json_values

__all__ = ["Scores", "verdict"]

_WEAK = 0.6  # identification below which "only weakly" is said


@dataclass(frozen=True, slots=True)
class Scores:
    """What score_everything found. None: could not be had (`ceiling_kind` and the like say why).

    Identification is the share of wrong clips that a prediction resembles less than its own;
    floors and ceiling are identifications too, with ties at one half.
    """

    identification: float  # clip level; ties lose, as the formula is printed
    identification_ties_half: float
    standard_error: float  # bootstrap over clips, of identification_ties_half
    ci_low: float  # 95 %
    ci_high: float
    permutation_p: float
    n_permutations: int
    null_kind: str
    null_mean: float
    null_sd: float
    n_clips: int
    n_people: int
    floor_shuffled: float
    shuffled_kind: str
    floor_mean_predictor: float | None
    floor_previous_clip: float | None
    previous_clip_se: float | None
    floor_order: float | None
    floor_label_mean: float | None  # knows the class and nothing else; not held against a decoder
    ceiling: float | None
    ceiling_kind: str
    identification_same_label: float | None
    identification_other_label: float | None
    top_k: dict[str, float]  # "top1_of_10": share of right answers
    top_k_chance: dict[str, float]
    median_rank: float  # of the own clip among n_clips; 1 is the best
    mean_percentile: float  # 1: always the best, 0: always the worst
    mean_reciprocal_rank: float
    pearson: float  # over clips, mean over dimensions
    pearson_each: tuple[float, ...]
    similarity: float  # of predictions with their own targets, mean over clips
    similarity_mean_predictor: float | None  # the same for the training mean: often high
    similarity_centred: float | None  # after the training mean is taken off both
    n_windows: int
    n_windows_scored: int
    metric: str
    exclude_same_clip: bool
    split: str
    leaky: bool
    why: str
    held_out: tuple[str, ...]
    test_openings: int
    seed: int
    window_identification: float | None = None
    window_identification_ties_half: float | None = None
    window_standard_error: float | None = None  # bootstrap over clips
    floor_within_clip: float | None = None  # windows dealt out anew within their clip
    chance: float = 0.5
    decodable: bool = False
    sentence: str = ""
    warnings: tuple[str, ...] = field(default_factory=tuple)

    @property
    def floors(self) -> dict[str, float]:
        """The floors that a decodable participant must pass, in words."""
        named = {
            "chance": self.chance,
            "a shuffled brain": self.floor_shuffled,
            "the training mean": self.floor_mean_predictor,
            "the clip before": self.floor_previous_clip,
            "the order of presentation": self.floor_order,
        }
        return {name: value for name, value in named.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not a number becomes None."""
        plain: dict[str, Any] = json_values(asdict(self))
        return plain


def verdict(scores: Scores, *, alpha: float = 0.05) -> Scores:
    """Fill in `decodable`, `sentence` and `warnings`.

    Decodable means: the permutation p is below `alpha`, the identification (ties at one half) is
    above chance and above every floor (shuffled brain, training mean, previous clip, order of
    presentation), and the split does not leak. A leaky split never makes a participant decodable.
    """
    who = "This participant" if scores.n_people == 1 else f"These {scores.n_people} people"
    score = scores.identification_ties_half
    told = f"identification {score:.3f} ± {scores.standard_error:.3f} of {scores.n_clips} clips"
    p = f"p = {scores.permutation_p:.2g}, {scores.n_permutations} permutations"
    name, floor = max(scores.floors.items(), key=lambda item: item[1])
    fewest = 1.0 / math.factorial(min(scores.n_clips, 20))
    decodable = False
    if scores.leaky:
        sentence = (
            f"{who} cannot be judged by these scores: {told} under a leaky split "
            f"({scores.split}). {scores.why}"
        )
    elif scores.permutation_p < alpha and score > floor:
        decodable = True
        how = "only weakly " if score < _WEAK else ""
        sentence = (
            f"{who} can {how}be decoded from these recordings: {told}, chance "
            f"{scores.chance:.1f}, {p}; the highest floor is {name} with {floor:.3f}."
        )
    elif max(fewest, 1.0 / (scores.n_permutations + 1)) >= alpha:
        sentence = (
            f"{who} cannot be decoded from these recordings: {told} are too few to tell from "
            f"chance ({p})."
        )
    elif scores.permutation_p >= alpha:
        sentence = (
            f"{who} cannot be decoded from these recordings: {told} is not above chance "
            f"{scores.chance:.1f} ({p})."
        )
    else:
        sentence = (
            f"{who} cannot be decoded from these recordings: {told} is above chance ({p}), but "
            f"not above what {name} gives ({floor:.3f})."
        )
    judged = replace(scores, decodable=decodable, sentence=sentence)
    return replace(judged, warnings=_warnings(judged))


def _warnings(scores: Scores) -> tuple[str, ...]:
    found = []
    if scores.leaky:
        found.append(f"The split leaks ({scores.split}): no score of it speaks for the decoder.")
    before, error = scores.floor_previous_clip, scores.previous_clip_se
    if before is not None and error is not None and before > 0.5 + 2.0 * error:
        found.append(
            f"The clip before is identified with {before:.3f} ± {error:.3f}: the response to it "
            "reaches into the window. Try a longer lag."
        )
    if scores.floor_order is not None and scores.floor_order > 0.5 + 3.0 * scores.null_sd:
        found.append(
            f"The order of presentation alone identifies {scores.floor_order:.3f} of the clips: "
            "the same order was used in training and test."
        )
    same, other = scores.window_identification_ties_half, scores.floor_within_clip
    if scores.decodable and same is not None and other is not None and same <= other + 1e-9:
        found.append(
            "Windows are identified no better than other windows of their clip would be: what is "
            "decoded is the clip, not what changes within it."
        )
    if scores.test_openings > 1:
        found.append(f"The test set was opened {scores.test_openings} times.")
    return tuple(found)
