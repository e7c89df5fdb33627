"""The table and the figure of generated sound, and the sentences on the command line."""

from __future__ import annotations

import json
import re
from typing import Any

from calibration.generated.scores import GeneratedScores, SoundScore, SoundWay
from calibration.report.figures import figures
from calibration.report.page import html_page
from calibration.told import told_result
from tests.calibration.report.results import made_result

_BARE: dict[str, Any] = {"lag": None, "alpha": None, "map": None, "regions": (), "families": ()}


def _row(way: SoundWay, score: float, strength: float | None = None) -> SoundScore:
    p = None if way in ("shuffled", "true") else 0.01
    return SoundScore(way, strength, score, score, 0.02, p, 10, score / 2, 30)


_SCORES = GeneratedScores(
    rows=(
        _row("embedding", 0.9),
        _row("direct", 0.71),
        _row("started", 0.83, 0.6),
        _row("started", 0.86, 0.4),
        _row("retrieved", 0.88),
        _row("shuffled", 0.49),
        _row("shuffled", 0.52, 0.6),
        _row("true", 0.95),
    ),
    chain="semantic",
    judge="<judge>",
    generator="ti<ny",
    seconds_per_clip=10.0,
)


def test_every_way_stands_in_the_page_beside_chance_and_controls() -> None:
    page = html_page(made_result(3, sound=_SCORES, **_BARE))
    table = page[page.index("What the generated sound tells") :]
    for value in ("0.900", "0.710", "0.830", "0.860", "0.880", "0.490", "0.520", "0.950"):
        assert value in table
    assert "&lt;judge&gt;" in table
    assert "ti&lt;ny" in table
    assert "Control: shuffled brain, generated from a retrieved sound, strength 0.6" in table
    assert len(re.findall(r"<tr>", table[: table.index("All scores")])) == 1 + len(_SCORES.rows)
    assert "What the generated sound tells" not in html_page(made_result(3, **_BARE))


def test_the_figure_has_a_bar_for_every_way() -> None:
    made = {title: figure for title, _, figure in figures(made_result(3, sound=_SCORES, **_BARE))}
    (axes,) = made["Generated sound"].axes
    assert [round(bar.get_width(), 2) for bar in axes.patches] == [
        row.identification for row in reversed(_SCORES.rows)
    ]
    assert axes.get_yticklabels()[-1].get_text() == "Decoded embedding, before any sound"


def test_the_json_and_the_last_line_hold_the_sound() -> None:
    result = made_result(3, sound=_SCORES, **_BARE)
    line = result.line()
    assert line["sound_identification"] == 0.71
    assert (line["sound_identification_started"], line["sound_started_strength"]) == (0.83, 0.6)
    assert line["sound_floor_shuffled"] == 0.49
    assert line["sound_ceiling"] == 0.95
    assert line["sound_identification_embedding"] == 0.9
    assert json.loads(result.json_text())["sound"]["rows"][2]["strength"] == 0.6
    assert "sound_identification" not in made_result(3, **_BARE).line()


def test_the_command_line_says_each_way_with_its_p() -> None:
    said: list[str] = []
    told_result(made_result(3, sound=_SCORES, **_BARE), said.append)
    lines = [line for line in said if line.startswith("  ")]
    assert len(lines) == len(_SCORES.rows)
    assert lines[1].startswith(
        "  Generated sound, direct: 0.710 (first of 10: 0.35, by chance 0.10"
    )
    assert lines[1].endswith("p = 0.0100)")
    assert "p =" not in lines[5]
