"""What a person can say about a data set that its files do not say themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import FileError, SettingError

__all__ = ["ReadOptions", "as_tuple", "chosen_participants", "part_of", "wanted"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The arguments of `calibration.readers.read_dataset`, which documents them."""

    participants: tuple[str, ...] | None = None
    sessions: tuple[str, ...] | None = None
    runs: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    select: str | None = None
    mask: Path | None = None
    labels: tuple[Path, ...] = ()
    label_names: Path | None = None
    tr_s: float | None = None
    stimuli: Path | None = None
    events: Path | None = None
    event_duration_s: float | None = None
    label_column: str | None = None
    stimulus_column: str | None = None
    markers: str | None = None
    marker_labels: Mapping[str, str] = field(default_factory=dict)
    ignore_labels: tuple[str, ...] = ()
    channels: tuple[str, ...] | None = None
    signal_type: str | None = None
    unit: str | None = None
    fill_max_s: float = 0.1
    roi: tuple[str, ...] = ()
    stimulus_key: str = "sample_name"
    remove_mean: bool = True
    strict: bool = True
    progress: Callable[[float, float], None] | None = None

    def __post_init__(self) -> None:
        for name in ("event_duration_s", "tr_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SettingError(f"{name} must be above 0 s, got {value}.")
        if not 0 <= self.fill_max_s <= 10:
            raise SettingError(f"fill_max_s must lie in 0 to 10 s, got {self.fill_max_s}.")

    def told(self, done: float, total: float) -> None:
        """Report progress, if somebody wants to know."""
        if self.progress is not None:
            self.progress(done, total)

    def place(self, path: Path | None, participant: str) -> Path | None:
        """Return a path in which `{participant}` stands for each person's name."""
        if path is None or "{participant}" not in str(path):
            return path
        return Path(str(path).replace("{participant}", participant))


def as_tuple(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return names given one by one, in a sequence, or not at all."""
    if value is None or isinstance(value, str):
        return None if value is None else (value,)
    return tuple(value)


def wanted(name: str, wishes: tuple[str, ...] | None, *, key: str = "") -> bool:
    """Tell whether a name is among the wishes; "1", "01" and "run-01" are the same wish."""
    if wishes is None:
        return True
    plain = _plain(name, key)
    return any(name == wish or plain == _plain(wish, key) for wish in wishes)


def _plain(name: str, key: str) -> str:
    name = name.removeprefix(f"{key}-") if key else name
    return str(int(name)) if name.isdecimal() else name


def chosen_participants(
    there: Sequence[str], options: ReadOptions, *, path: Path
) -> tuple[str, ...]:
    """Return those of the participants that are wanted, as the data set writes them.

    Raises
    ------
    FileError
        If one that is wanted is not there, or nobody is.
    """
    listed = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "")
    if not there:
        raise FileError(f"{path} holds no participant. Give the root of a data set.")
    if options.participants is None:
        return tuple(there)
    for wish in options.participants:
        if not any(wanted(name, (wish,), key="sub") for name in there):
            raise FileError(
                f"Participant {wish!r} is not in {path.name}; it has {listed}. Name one of them."
            )
    return tuple(name for name in there if wanted(name, options.participants, key="sub"))


def part_of(*names: str) -> str:
    """Return "train" or "test" where a name of a task, run or file says so, else ""."""
    for name in names:
        for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name):
            word = word.lower()
            if word in ("train", "training", "trn"):
                return "train"
            if word in ("test", "testing", "tst"):
                return "test"
    return ""
