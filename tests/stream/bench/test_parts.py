"""Percentiles, the machine's description, busy jobs."""

from __future__ import annotations

import math
import socket
from typing import Any

import numpy as np
import pytest

from models.errors import SettingError
from stream.bench.busy import busy_cores
from stream.bench.machine import describe_machine, load_average, resident_mb
from stream.bench.spread import spread_ms


def test_percentiles_are_numpys_in_milliseconds() -> None:
    seconds = np.random.default_rng(0).uniform(0.0, 0.1, 1_000)
    found = spread_ms([*seconds, math.nan])
    assert found.n == 1_000
    assert found.p99 == pytest.approx(1e3 * np.percentile(seconds, 99.0))
    assert found.max == 1e3 * seconds.max()
    with pytest.raises(SettingError, match="No time"):
        spread_ms([])


def test_machine_is_described_without_its_name() -> None:
    found = describe_machine()
    assert found["cores"] >= 1
    assert "numpy" in found["packages"]
    assert socket.gethostname() not in str(found)
    load = load_average()
    assert load is None or len(load) == 3
    memory = resident_mb()
    assert memory is None or memory > 1.0


def test_busy_jobs_end_with_their_context() -> None:
    import psutil

    before = {child.pid for child in psutil.Process().children()}
    with busy_cores(2):
        started = [c for c in psutil.Process().children() if c.pid not in before]
        assert len(started) == 2
    assert not any(child.is_running() for child in started)


def test_full_size_rows_become_a_table_for_each_model() -> None:
    from rich.console import Console

    from stream.bench.table import full_tables

    columns = ("floor A100 ms", "floor H200 ms", "p50 ms", "p99 ms", "min ms", "RTF p50")
    numbers = dict.fromkeys(columns, 3.25)
    rows: list[dict[str, Any]] = [
        {"model": model, "what": "vocoder", "engine": "onnx fp32", **numbers, "note": note}
        for model, note in (("musicldm", ""), ("audioldm2", "not possible here"))
    ]
    console = Console(width=120)
    with console.capture() as capture:
        for part in full_tables(rows, seconds=2.56, hardware="CPU"):
            console.print(part)
    shown = capture.get()
    for words in ("musicldm, random weights", "audioldm2, random", "onnx fp32: not possible here"):
        assert words in shown
    assert "…" not in shown
