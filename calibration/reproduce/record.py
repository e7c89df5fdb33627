"""What a reproduction came to: rows beside the published ones, checks, and what still waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from calibration.reproduce.tables import Published

__all__ = ["Check", "Reproduction", "Row", "over_people", "plain", "waiting"]


@dataclass(frozen=True, slots=True)
class Check:
    """A count that the published data set is known to have, and what was found."""

    name: str
    expected: str
    found: str
    good: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "expected": self.expected,
            "found": self.found,
            "good": self.good,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One number of ours beside the paper's, with its controls; or what it waits for."""

    table: str
    name: str
    metric: str
    published: Published | None = None
    ours: float | None = None
    error: float | None = None  # standard error: over clips, or over people where there are several
    using: str = ""  # what ours was made with
    comparable: bool = True  # False: the paper's number is of another embedding or model
    leaky: str = ""  # why the number says nothing of decoding; "": it may
    controls: dict[str, float] = field(default_factory=dict)
    waits: str = ""
    remark: str = ""
    people: dict[str, float] = field(default_factory=dict)

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        if self.ours is None or self.published is None or self.published.value is None:
            return None
        return self.ours - self.published.value

    @property
    def stamp(self) -> str:
        """What must be said of the row before its number is read."""
        if self.ours is None:
            return "waits" if self.waits else "no result"
        if self.leaky:
            return "leaky"
        if self.published is not None and not self.comparable:
            return "not comparable"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        paper = self.published
        return {
            "table": self.table,
            "row": self.name,
            "metric": self.metric,
            "ours": self.ours,
            "error": self.error,
            "paper": None if paper is None else paper.value,
            "paper_error": None if paper is None else paper.error,
            "paper_mark": None if paper is None else paper.mark,
            "difference": self.difference,
            "stamp": self.stamp,
            "comparable": self.comparable,
            "using": self.using,
            "leaky": self.leaky or None,
            "controls": self.controls,
            "waits_for": self.waits or None,
            "remark": self.remark,
            "people": self.people,
        }


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A whole page."""

    paper: str
    title: str
    claim: str  # what the page can and cannot show
    data: str
    participants: tuple[str, ...]
    checks: tuple[Check, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    settings: dict[str, Any]
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; what is not a number is None."""
        values: dict[str, Any] = plain(
            {
                "schema": 1,
                "paper": self.paper,
                "title": self.title,
                "claim": self.claim,
                "data": self.data,
                "participants": list(self.participants),
                "checks": [check.to_json() for check in self.checks],
                "rows": [row.to_json() for row in self.rows],
                "notes": list(self.notes),
                "settings": self.settings,
                "n_computed": sum(row.ours is not None for row in self.rows),
                "n_waiting": sum(bool(row.waits) and row.ours is None for row in self.rows),
                "leaky_rows": sum(row.stamp == "leaky" for row in self.rows),
                "seconds": round(self.seconds, 2),
            }
        )
        return values


def waiting(published: Sequence[Published], reason: str) -> list[Row]:
    """Return rows that cannot be computed yet, each with what it waits for."""
    return [Row(p.table, p.row, p.metric, published=p, waits=reason) for p in published]


def over_people(rows_of: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return each row once: the mean over people, with its standard error and each one's own.

    Parameters
    ----------
    rows_of : mapping of participant to rows
        A row that only some have is the mean of those.
    """
    together: dict[tuple[str, str, str, str], list[tuple[str, Row]]] = {}
    for person, rows in rows_of.items():
        for row in rows:
            together.setdefault((row.table, row.name, row.metric, row.using), []).append(
                (person, row)
            )
    return [_mean(group) for group in together.values()]


def _mean(group: list[tuple[str, Row]]) -> Row:
    first = group[0][1]
    there = [(person, row) for person, row in group if row.ours is not None]
    if not there:
        return first
    values = [float(row.ours or 0.0) for _, row in there]
    people = {person: value for (person, _), value in zip(there, values, strict=True)}
    if len(there) == 1:
        return replace(there[0][1], people=people)
    names = dict.fromkeys(name for _, row in there for name in row.controls)
    controls = {
        name: float(np.mean([row.controls[name] for _, row in there if name in row.controls]))
        for name in names
    }
    if "p" in controls:  # p values have no mean
        controls["largest p"] = max(row.controls["p"] for _, row in there if "p" in row.controls)
        del controls["p"]
    return replace(
        there[0][1],
        ours=float(np.mean(values)),
        error=float(np.std(values, ddof=1) / np.sqrt(len(values))),
        controls=controls,
        people=people,
    )


def plain(value: Any) -> Any:
    """Return JSON values: no numbers that are not finite, no arrays."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.floating, np.integer)):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
