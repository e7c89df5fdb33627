"""What a calibration came to: the record behind the JSON, the page and the command's last line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.generated.scores import GeneratedScores
from calibration.json_values import json_values

__all__ = ["Curve", "Family", "Region", "Result", "Similarity"]


@dataclass(frozen=True, slots=True)
class Curve:
    """A score against something that was tried."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    chosen: float
    score: str  # what y is


@dataclass(frozen=True, slots=True)
class Family:
    """What one way of splitting the data scores."""

    name: str
    score: float
    chance: float
    leaky: bool
    told: str  # why, or what it means


@dataclass(frozen=True, slots=True)
class Region:
    """A region, or an EEG channel, and how much of the decoder rests on it."""

    name: str
    n: int  # voxels, or features
    score: float  # held-out correlation where one was fitted, else the share of the weights
    chosen: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """How much each prediction (row) resembles each target (column)."""

    values: NDArray[np.float64]  # (n, n)
    names: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Everything that the report shows."""

    participant: str
    dataset: str
    format: str
    modality: str
    target: str  # what is decoded
    split: str
    leaky: bool
    decodable: bool
    verdict: str  # one or two sentences
    scores: dict[str, Any]  # JSON values; the controls beside them
    by_label: dict[str, float]  # identification within each class
    similarity: Similarity
    lag: Curve | None
    alpha: Curve | None
    regions: tuple[Region, ...]
    region_score: str  # what `Region.score` is
    map: NDArray[np.float32] | None  # (x, y, z) share of the weights in each voxel, NaN outside
    families: tuple[Family, ...]
    facts: dict[str, Any]  # counts, seconds, memory
    settings: dict[str, Any]
    software: dict[str, str]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    sound: GeneratedScores | None = None  # generated and re-embedded, where there is a generator

    @property
    def of_classes(self) -> bool:
        """Whether single presentations of classes were scored, and not clips."""
        return "accuracy" in self.scores

    def line(self) -> dict[str, Any]:
        """Return what the command prints last with `--json`."""
        names = (
            "identification",
            "identification_ties_half",
            "chance",
            "floor_shuffled",
            "ceiling",
            "permutation_p",
            "n_clips",
        )
        return {
            **{name: self.scores.get(name) for name in names},
            "split": self.split,
            "leaky": self.leaky,
            "test_openings": self.facts.get("test_openings"),
            "lag_s": self.facts.get("lag_s"),
            "decodable": self.decodable,
            "fit_s": self.facts.get("fit_s"),
            "peak_mb": self.facts.get("peak_mb"),
            "participant": self.participant,
            "verdict": self.verdict,
            **({} if self.sound is None else self.sound.line()),
        }

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values; the map is left to the page."""
        return {
            **self.line(),
            "dataset": self.dataset,
            "format": self.format,
            "modality": self.modality,
            "target": self.target,
            "scores": self.scores,
            "by_label": self.by_label,
            "similarity": {
                "values": [[round(float(v), 5) for v in row] for row in self.similarity.values],
                "names": list(self.similarity.names),
                "labels": list(self.similarity.labels),
            },
            "lag": asdict(self.lag) if self.lag else None,
            "alpha": asdict(self.alpha) if self.alpha else None,
            "regions": [asdict(region) for region in self.regions],
            "region_score": self.region_score,
            "families": [asdict(family) for family in self.families],
            "facts": self.facts,
            "sound": None if self.sound is None else self.sound.to_json(),
            "settings": self.settings,
            "software": self.software,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def json_text(self) -> str:
        """Return the JSON as text; not a number becomes null."""
        return json.dumps(json_values(self.to_json()), indent=1, allow_nan=False) + "\n"
