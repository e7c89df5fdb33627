"""How a checkpoint is brought to predict v or x0, with guidance inside, and then to few steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from calibration.training.settings import StageSettings
from models.errors import SettingError

__all__ = ["ConsistencySettings", "ConvertSettings"]


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
    # Share of the sound below which the data, not the checkpoint, say what is right: on the way to
    # x0 the checkpoint's errors are divided by it. 0.2 is reached at level 650 of 1,000. Guidance
    # is left out there, where it is known to do harm (arXiv:2404.07724). Our choice.
    least_alpha: float = 0.2

    def __post_init__(self) -> None:
        StageSettings.__post_init__(self)
        if not 0 <= self.least_alpha < 1:
            raise SettingError(f"least_alpha lies in 0 to 1, got {self.least_alpha}.")
        if not 1 <= self.low <= self.strength <= self.high:
            raise SettingError(
                "Strengths of guidance rise from low (1 or more) over strength to high, got "
                f"{self.low}, {self.strength} and {self.high}."
            )


@dataclass(frozen=True, slots=True)
class ConsistencySettings(StageSettings):
    """How a checkpoint that predicts v or x0 is taught to jump to the sound."""

    steps: int = 5_000
    batch: int = 8
    rate: float = 3e-5
    warmup: int = 100
    average: float = 0.99  # of the weights that are followed, and kept
    # Levels of noise of a path, a multiple of 4: one, two and four steps begin at some of them.
    points: int = 16
    solver: Literal["heun", "ddim"] = "heun"  # from level to level, by the teacher

    def __post_init__(self) -> None:
        StageSettings.__post_init__(self)
        if self.points < 4 or self.points % 4 or self.points > 1000:
            raise SettingError(f"A path has 4, 8, 12 ... levels, got points = {self.points}.")
