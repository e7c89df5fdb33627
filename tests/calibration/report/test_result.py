"""The record of a calibration as JSON: strict, whole, and with the keys that the command prints."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.calibration.report.results import made_result


def _no_constants(name: str) -> Any:
    raise AssertionError(name)


def test_the_json_is_strict_whatever_is_not_finite() -> None:
    result = made_result(3)
    scores = {**result.scores, "ceiling": float("nan"), "odd": np.float32("inf"), "n": np.int64(3)}
    values = result.similarity.values.copy()
    values[0, 1] = np.nan
    odd = replace(result, scores=scores, similarity=replace(result.similarity, values=values))
    read = json.loads(odd.json_text(), parse_constant=_no_constants)
    assert read["ceiling"] is None
    assert read["scores"]["odd"] is None
    assert read["scores"]["n"] == 3
    assert read["similarity"]["values"][0][1] is None


def test_the_line_has_every_key_that_the_command_promises() -> None:
    line = made_result().line()
    assert {
        "identification", "identification_ties_half", "chance", "ceiling", "floor_shuffled",
        "permutation_p", "n_clips", "split", "leaky", "test_openings", "lag_s", "decodable",
        "fit_s", "peak_mb",
    } <= set(line)  # fmt: skip
    assert line["lag_s"] == 1.5
    assert line["split"] == "leave one run out"


@pytest.mark.parametrize("classes", [False, True])
def test_it_knows_whether_classes_were_scored(classes: bool) -> None:
    assert made_result(4, classes=classes).of_classes is classes
