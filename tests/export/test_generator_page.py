from __future__ import annotations

import dataclasses
from pathlib import Path

from export.generator import read_generator_card
from export.generator_page import card_page, figure_text, time_text


def test_the_page_tells_what_a_person_should_know(plain: Path) -> None:
    card = dataclasses.replace(
        read_generator_card(plain),
        about={
            "codec": {"seconds": 5400.0, "scores": {"mel_pcc": 0.98761}},
            "made_with": {"machine": "2 cores"},
            "recipe": {"seed": 3},
        },
        parity={"figures": {"a": 1.23456e-6, "b": None}, "failed": ["b is nan"]},
    )
    page = card_page(card)
    for said in (
        *("small tiny", "vector and tokens", "2 steps", "0.04, 0.12 s", "made for tests"),
        *("mel_pcc: 0.9876", "seed: 3", "| a | 1.23e-06 |", "| b | not finite |"),
        *("time: 1.5 h", "machine: 2 cores", "no diagnosis", "Not kept: b is nan."),
    ):
        assert said in page
    assert figure_text(0.5) == "0.5"
    assert [time_text(t) for t in (None, 90.0, 3600.0)] == ["time not recorded", "2 min", "1.0 h"]
