"""Figures of results of any size: everything drawn lies in the figure, and no labels overlap."""

from __future__ import annotations

import base64
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from calibration.report.figures import figure_png, figures
from calibration.report.result import Curve, Region
from models.errors import SettingError
from tests.calibration.report.results import made_result


def _by_title(result: Any) -> dict[str, Any]:
    return {title: figure for title, _, figure in figures(result)}


def test_every_question_of_a_reader_has_its_figure() -> None:
    assert list(_by_title(made_result())) == [
        "Score and what it is compared with", "By class", "Similarity", "Lag", "Penalty", "Map",
        "Regions", "Ways to hold out",
    ]  # fmt: skip


def test_what_was_not_measured_has_none() -> None:
    bare = made_result(2, classes=True, lag=None, alpha=None, map=None, regions=(), families=())
    assert list(_by_title(bare)) == ["Score and what it is compared with", "By class", "Similarity"]


@pytest.mark.parametrize("n", [2, 60, 480])
def test_few_and_many_clips_can_be_drawn(n: int) -> None:
    made = _by_title(made_result(n, lag=None, alpha=None, map=None, families=()))
    png = base64.b64decode(figure_png(made["Similarity"]).partition(",")[2])
    assert png.startswith(b"\x89PNG")
    assert len(png) < 1_500_000


def test_labels_of_scores_that_are_equal_do_not_overlap() -> None:
    result = made_result()
    floors = dict.fromkeys(("floor_mean", "floor_previous_clip", "floor_order"), 0.5)
    equal = made_result(scores={**result.scores, **floors, "floor_shuffled": 0.5, "ceiling": 0.8})
    figure = _by_title(equal)["Score and what it is compared with"]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    for texts in (axes.get_yticklabels(), axes.texts):
        boxes = sorted((text.get_window_extent() for text in texts), key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
        assert all(0 <= box.x0 and box.x1 <= figure.bbox.width for box in boxes)


@pytest.mark.parametrize("title", ["By class", "Lag", "Penalty", "Regions", "Ways to hold out"])
def test_long_and_odd_names_stay_in_the_figure(title: str) -> None:
    names = [
        "$\\frac{1}$",
        "a" * 300,
        "Größe_{}^",
        "line\nbreak",
        "\x07bell",
        "b" * 300,
        "<b>&amp;",
    ]
    regions = tuple(Region(name, 10, 0.1) for name in names)
    result = made_result(by_label=dict.fromkeys(names, 0.6), regions=regions)
    figure = _by_title(result)[title]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    ticks = [] if title in ("Lag", "Penalty") else axes.get_yticklabels()  # some are out of view
    for text in (*ticks, axes.xaxis.label, axes.yaxis.label):
        if not text.get_text():
            continue
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y1 <= figure.bbox.height + 1


def test_hundreds_of_classes_and_regions_are_cut_to_those_that_can_be_read() -> None:
    many = made_result(
        by_label={f"c{k}": k / 300 for k in range(300)},
        regions=tuple(Region(f"r{k}", 5, k / 150) for k in range(150)),
    )
    made = _by_title(many)
    assert len(made["By class"].axes[0].get_yticks()) == 40
    assert len(made["Regions"].axes[0].get_yticks()) == 24


def test_a_penalty_of_zero_and_a_map_of_nothing_are_no_reason_to_stop() -> None:
    flat = np.full((4, 4, 3), np.nan, np.float32)
    flat[1:3, 1:3, 1] = 0.0
    odd = made_result(alpha=Curve((0.0, 1.0, 10.0), (0.1, 0.2, 0.1), 0.0, "held-out R2"), map=flat)
    made = _by_title(odd)
    for title in ("Penalty", "Map"):
        made[title].draw_without_rendering()
    nowhere = made_result(map=np.full((3, 3, 3), np.nan, np.float32))
    assert "Map" not in _by_title(nowhere)


def test_a_score_below_every_axis_is_still_drawn() -> None:
    low = made_result()
    scores = {**low.scores, "identification_ties_half": 0.02, "confidence_interval": [0.0, 0.05]}
    axes = _by_title(made_result(scores=scores))["Score and what it is compared with"].axes[0]
    assert axes.get_xlim()[0] <= 0.0


def test_without_matplotlib_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SettingError, match=r"hearback\[calibrate\]"):
        figures(made_result())
