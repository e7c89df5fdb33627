"""How a checkpoint is brought to predict v or x0, with guidance inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from calibration.training.settings import StageSettings
from models.errors import SettingError

__all__ = ["ConvertSettings"]


@dataclass(frozen=True, slots=True)
class ConvertSettings(StageSettings):
    """How a checkpoint is brought to another prediction, with guidance inside."""

    steps: int = 3_000
    batch: int = 8
    rate: float = 1e-4
    warmup: int = 100
    average: float = 0.999
    prediction: Literal["v_prediction", "sample"] = "v_prediction"
    low: float = 2.0  # strengths of guidance that are learnt
    high: float = 6.0
    strength: float = 3.5  # that is folded in at the end

    def __post_init__(self) -> None:
        StageSettings.__post_init__(self)
        if not 1 <= self.low <= self.strength <= self.high:
            raise SettingError(
                "Strengths of guidance rise from low (1 or more) over strength to high, got "
                f"{self.low}, {self.strength} and {self.high}."
            )
