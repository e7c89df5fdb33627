"""Scores of classes: presentations are trials, classes count equally, nothing flatters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from calibration.class_scores import ClassScores, score_classes
from models.errors import SettingError


def _trials(
    strength: float, *, seed: int = 0, n: int = 240, k: int = 3, share: Any = None
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    code = rng.choice(k, size=n, p=share)
    classes = np.eye(k)
    predictions = strength * classes[code] + rng.normal(size=(n, k))
    return {
        "predictions": np.repeat(predictions, 2, axis=0),  # two windows each
        "classes": classes,
        "names": tuple("abc"[:k]),
        "code": np.repeat(code, 2),
        "trial": np.repeat(np.array([f"t{i:04d}" for i in range(n)]), 2),
        "within": np.repeat(np.array([f"run{i // 60}" for i in range(n)]), 2),
        "training_mean": np.bincount(code, minlength=k) / n,
        "n_permutations": 200,
        "n_bootstrap": 200,
    }


def _score(values: dict[str, Any], **more: Any) -> ClassScores:
    predictions = values.pop("predictions")
    return score_classes(predictions, **values, **more)


def test_noise_scores_chance_and_its_p_is_not_small() -> None:
    ps = []
    values = []
    for seed in range(40):
        result = _score(_trials(0.0, seed=seed))
        ps.append(result.permutation_p)
        values.append(result.identification_ties_half)
    assert abs(np.mean(values) - 0.5) < 2 * np.std(values, ddof=1) / np.sqrt(len(values))
    assert np.mean(np.array(ps) < 0.05) <= 0.15


def test_a_signal_is_found_and_the_area_is_that_of_scikit_learn() -> None:
    values = _trials(2.0, k=2)
    code = values["code"][::2]
    result = _score(values)
    assert result.permutation_p == pytest.approx(1 / 201)
    assert result.confidence_interval[0] > 0.5
    assert result.identification_ties_half > 0.85
    run = values["within"][::2]
    expected = np.mean(
        [roc_auc_score(code[run == r] == 0, result.similarity[run == r, 0]) for r in set(run)]
    )
    assert result.auc_classes["a"] == pytest.approx(expected)


def test_always_saying_the_frequent_class_is_worth_nothing() -> None:
    values = _trials(0.0, k=2, share=[0.8, 0.2])
    values["predictions"] = np.tile(values["training_mean"], (len(values["code"]), 1))
    result = _score(values)
    assert result.identification_ties_half == pytest.approx(0.5)
    assert result.identification == 0.0  # ties lose
    assert result.floor_mean == pytest.approx(0.5)


def test_the_presentation_before_is_what_its_floor_says() -> None:
    values = _trials(0.0)
    before = np.roll(values["code"][::2], 1)
    values["predictions"] = np.repeat(np.eye(3)[before], 2, axis=0)
    result = _score(values)
    assert result.floor_previous_clip == pytest.approx(1.0)


def test_one_class_alone_is_refused() -> None:
    values = _trials(0.0)
    values["code"][:] = 0
    with pytest.raises(SettingError, match="2 or more classes"):
        _score(values)
