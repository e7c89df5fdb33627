"""What a user can tell `hearback reproduce`; nothing is downloaded unless it is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import SettingError

__all__ = [
    "ALPHAS",
    "WINDOWS_S",
    "ReproduceOptions",
    "StandIn",
    "make_stand_in",
    "stand_ins",
    "told",
]

Progress = Callable[[str, float, float], None]  # what, done, total

# Neither Brain2Music nor C2F-LDM publishes its grid: half decades around the mean square of a
# z-scored row, wide enough that no end of it is chosen.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 7, 15))


@dataclass(frozen=True, slots=True)
class ReproduceOptions:
    """Data, weights and effort."""

    data: Path | None = None
    out: Path | None = None
    participants: tuple[str, ...] = ()  # all of the data set if empty
    stimuli: Path | None = None
    mask: Path | None = None
    labels: tuple[Path, ...] = ()
    label_names: Path | None = None
    select: str | None = None  # part of the images' names, where there are several kinds
    clap: str | None = None  # folder or hub id
    audiomae: str | None = None
    wav2vec2: str | None = None
    hubert: str | None = None
    embedders: tuple[str, ...] = ()  # further ones, as `make_embedder` takes them
    download: bool = False  # hub ids that were named may be fetched
    only: tuple[str, ...] = ()  # tables
    lag_s: float | None = None  # fitted on training runs if not given
    partial: bool = False  # go on with a part of the data set
    seconds: int = 270  # of each trial, "eeg-to-mel"
    alphas: tuple[float, ...] = ALPHAS
    n_folds: int = 5
    n_permutations: int = 2000
    n_shuffled: int = 1  # decoders of shuffled brains for each row
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.n_permutations, self.seconds)
        if min(counts) < 1 or self.n_folds < 2 or self.n_shuffled < 0 or not self.alphas:
            raise SettingError(
                "Expected permutations and seconds of 1 or more, folds of 2 or more and some "
                f"alphas, got {self}."
            )

    def wants(self, table: str) -> bool:
        """Tell whether a table was asked for."""
        return not self.only or table in self.only

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; of paths the name, since where they lay is nobody else's business."""
        values: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if isinstance(value, Path):
                value = value.name
            elif isinstance(value, tuple):
                value = [item.name if isinstance(item, Path) else item for item in value]
            elif name in _PLACES and value is not None:
                value = _name(value)
            values[name] = value
        values["embedders"] = [_without_place(item) for item in self.embedders]
        return values


_PLACES = ("clap", "audiomae", "wav2vec2", "hubert")


@dataclass(frozen=True, slots=True)
class StandIn:
    """An embedding that is put where the paper has another one."""

    spec: str  # as `make_embedder` takes it
    instead_of: str  # the paper's row
    window_s: float  # its window in the paper

    @property
    def name(self) -> str:
        """What the row is called: never with a path."""
        return _without_place(self.spec)


# Window of each embedding of Brain2Music, s.
WINDOWS_S = {"SoundStream": 1.5, "w2v-BERT": 5.0, "MuLan-text": 15.0, "MuLan-music": 10.0}


def stand_ins(options: ReproduceOptions) -> tuple[StandIn, ...]:
    """Return the embeddings that are decoded: those whose weights were named, or mel statistics.

    CLAP stands where MuLan-music does (both were trained on music and words), wav2vec 2.0 and
    HuBERT where w2v-BERT does.
    """
    found = []
    for kind, place, row in (
        ("clap", options.clap, "MuLan-music"),
        ("audiomae", options.audiomae, "MuLan-music"),
        ("wav2vec2", options.wav2vec2, "w2v-BERT"),
        ("hubert", options.hubert, "w2v-BERT"),
    ):
        if place is not None:
            found.append(StandIn(f"{kind}:{place}", row, WINDOWS_S[row]))
    for spec in options.embedders:
        row = {"log-mel": "SoundStream", "hubert": "w2v-BERT", "wav2vec2": "w2v-BERT"}.get(
            spec.partition(":")[0].removesuffix("-small-random"), "MuLan-music"
        )
        found.append(StandIn(spec, row, WINDOWS_S[row]))
    default = StandIn("mel-statistics", "MuLan-music", WINDOWS_S["MuLan-music"])
    if default.spec not in [item.spec for item in found]:
        found.append(default)
    return tuple(found)


def make_stand_in(item: StandIn, options: ReproduceOptions) -> Any:
    """Return the embedder; a hub id is fetched only where that was allowed.

    Raises
    ------
    SettingError
        If there is no such embedder.
    FileError
        If its weights are not at hand.
    """
    from calibration.embedders import make_embedder

    return make_embedder(item.spec, **({"download": True} if options.download else {}))


def told(people: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    return ", ".join(people[:5]) + (", ..." if len(people) > 5 else "")


def _without_place(spec: str) -> str:
    kind, _, place = spec.partition(":")
    return f"{kind} ({_name(place)})" if place else kind


def _name(place: str) -> str:
    path = Path(place)
    return path.name if path.is_absolute() or path.exists() else place
