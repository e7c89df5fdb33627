from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from calibration.config import GeneratorChoice
from calibration.generated.full_tokens import check_entering
from export.generator_files import read_generator_card
from models.errors import SettingError

_SHIPPED = Path(__file__).parents[3] / "calibration" / "generators" / "tiny"


def test_tokens_enter_a_tuned_checkpoint_as_they_did_then() -> None:
    told = {"weights": "ab", "trained_on": [], "pooling": "mean-max", "fill": "zeros"}
    card = replace(read_generator_card(_SHIPPED), about={"recipe": {"tuned": told}})
    check_entering(GeneratorChoice(pooling="mean-max"), card)
    with pytest.raises(SettingError, match=r"tuned with pooling = 'mean-max', .* is 'mean'"):
        check_entering(GeneratorChoice(), card)
    with pytest.raises(SettingError, match=r"tuned with fill = 'zeros'"):
        check_entering(GeneratorChoice(pooling="mean-max", fill="last"), card)


def test_a_checkpoint_that_was_not_tuned_takes_them_as_asked_for() -> None:
    check_entering(GeneratorChoice(pooling="mean-max"), read_generator_card(_SHIPPED))
