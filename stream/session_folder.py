"""The folder of a session: settings, trace, features, decisions and the summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import FileError
from stream.json_lines import JsonLines, finite
from stream.messages import Condition, FeatureWindow
from stream.monitor import Observer
from stream.npy_rows import NpyRows

__all__ = ["DECISION", "WINDOW", "SessionFolder"]

WINDOW = np.dtype(
    [
        ("seq", "<i8"),
        ("start", "<i8"),
        ("stop", "<i8"),
        ("t_start", "<f8"),
        ("t_stop", "<f8"),
        ("n_filled", "<i4"),
    ]
)
DECISION = np.dtype([("seq", "<i8"), ("item", "<i8"), ("confidence", "<f4")])


class SessionFolder(Observer):
    """Writes down what the stages make; all files can be read while the session runs.

    ================  ==========================================================================
    settings.json     what the session was told, and what it ran on
    trace.jsonl       for each window, when it went in and out of every stage (`stream.trace`)
    windows.npy       (n,) structured: seq, start, stop (samples), t_start, t_stop (s), n_filled
    features.npy      (n, n_features) float32, one row a window
    decisions.npy     (m,) structured: seq, item, confidence; the windows that were decoded
    decoded.npy       (m, ...) float32, what the decoder gave; acoustic tokens, which follow from
                      that and the features, are not kept
    summary.json      the counts, written last
    ================  ==========================================================================

    A live session adds recording.xdf, events.jsonl and played.wav.

    Parameters
    ----------
    path : Path
        Made here; if it is there already, it must not hold a session.

    Raises
    ------
    FileError
        If it cannot be made, or holds a session.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if (path / "settings.json").exists():
            raise FileError(
                f"{path} holds a session already. Name another folder with --out; nothing is "
                "overwritten."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"Cannot make the folder {path}: {error.strerror}. Name another with --out."
            ) from error
        self.trace = JsonLines(path / "trace.jsonl")
        self._windows = NpyRows(path / "windows.npy", WINDOW)
        self._decisions = NpyRows(path / "decisions.npy", DECISION)
        self._features: NpyRows | None = None
        self._decoded: NpyRows | None = None

    def on_window(self, window: FeatureWindow) -> None:
        """Keep a window and its features."""
        if self._features is None:
            self._features = NpyRows(self.path / "features.npy", "<f4", window.values.shape)
        self._features.add(window.values)
        row = (
            window.seq,
            window.start,
            window.stop,
            window.t_start,
            window.t_stop,
            window.n_filled,
        )
        self._windows.add(np.array(row, WINDOW))

    def on_condition(self, condition: Condition) -> None:
        """Keep what a window was decoded to."""
        if self._decoded is None:
            self._decoded = NpyRows(self.path / "decoded.npy", "<f4", condition.values.shape)
        self._decoded.add(condition.values)
        row = (condition.window.seq, condition.item, condition.confidence)
        self._decisions.add(np.array(row, DECISION))

    def flush(self) -> None:
        """Write what waits; called from a thread, several times a second and at the end."""
        self.trace.flush()
        for rows in self._rows():
            rows.flush()

    @property
    def failure(self) -> str:
        """Why something cannot be written now; "" if all is well."""
        files: list[JsonLines | NpyRows] = [self.trace, *self._rows()]
        for file in files:
            if file.error is not None:
                return f"{file.path}: {file.error.strerror or file.error}"
            if file.dropped:
                return f"{file.path}: {file.dropped} entries were lost while the disk failed"
        return ""

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Write one JSON object as a file of its own.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        text = json.dumps(finite(values), indent=1, default=str, allow_nan=False) + "\n"
        target = self.path / name
        try:
            part = target.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(target)
        except OSError as error:
            raise FileError(f"Cannot write {target}: {error.strerror}.") from error

    def _rows(self) -> list[NpyRows]:
        files = (self._windows, self._features, self._decisions, self._decoded)
        return [file for file in files if file is not None]
