from __future__ import annotations

import logging

import pytest

from calibration.training.loop import Progress
from calibration.training.progress import WholeRun, training_progress
from calibration.training.settings import CodecSettings, TokensSettings, TrainingSettings

_RUN = TrainingSettings(
    codec=CodecSettings(steps=100, batch=10), tokens=TokensSettings(steps=300, batch=10)
)


def _at(stage: str, step: int, steps: int, pace: float) -> Progress:
    left = (steps - step) / pace if pace else 60.0
    return Progress(stage, step, steps, {"loss": 0.5}, pace, left)


def test_what_is_left_of_a_run_follows_from_the_pace_of_its_stage() -> None:
    whole = WholeRun(_RUN, ["codec", "tokens"])
    assert whole.share(_at("codec", 50, 100, 2.0)) == pytest.approx(0.125)
    # 25 s of the codec, and three times as many steps of equal work.
    assert whole.left_s(_at("codec", 50, 100, 2.0)) == pytest.approx(25.0 + 150.0)
    assert whole.share(_at("tokens", 150, 300, 4.0)) == pytest.approx(0.625)
    assert whole.left_s(_at("tokens", 150, 300, 4.0)) == pytest.approx(37.5)


def test_nothing_is_foretold_before_a_pace_is_known() -> None:
    whole = WholeRun(_RUN, ["codec"])
    assert whole.left_s(_at("sounds: clips", 1, 10, 0.0)) != whole.left_s(_at("codec", 1, 100, 1.0))
    assert whole.share(_at("sounds: clips", 1, 10, 0.0)) == 0.0


def test_a_line_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO),
        training_progress(_RUN, ["codec"], quiet=False) as (tell, s),
    ):
        tell(_at("codec", 50, 100, 2.0))
    assert s == 20.0
    assert "codec 50/100  loss 0.5000  2.00 it/s  25 s left  all: 25 s left" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO), training_progress(_RUN, ["codec"], quiet=True) as (tell, _):
        tell(_at("codec", 50, 100, 2.0))
    assert not caplog.text
