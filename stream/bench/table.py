"""The measurement as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["bench_tables", "full_tables"]

_FULL_COLUMNS = (
    "what",
    "engine",
    "floor A100 ms",
    "floor H200 ms",
    "p50 ms",
    "p99 ms",
    "min ms",
    "RTF p50",
)
_STAMPS = {
    "stretch_start": "stretch begun",
    "latent": "latents there",
    "waveform": "waveform there",
    "first_sample": "first sample to the sink",
    "first_changed_sample": "first changed sample to the sink",
}


def bench_tables(values: dict[str, Any]) -> list[RenderableType]:
    """Return tables of what `BenchResult.to_json` returns."""
    from rich.table import Table

    machine = values["machine"]
    head = (
        f"{values['generator']} ({values['family']} {values['size']}, {values['steps']} steps), "
        f"stretches of {values['stretch_s']:g} s, {values['provider']}, {values['threads']} "
        f"thread(s); {machine['cpu']}, {machine['cores']} cores, load "
        f"{_load(values['load'].get('before'))} before and {_load(values['load'].get('after'))} "
        f"after{', real-time priority' if machine['realtime'] else ''}"
    )
    stamps = Table(title="From the condition, ms", title_justify="left")
    for column in ("", "p50", "p95", "p99", "max", "n"):
        stamps.add_column(column, justify="left" if not column else "right")
    parts = [("by itself", values)]
    if "stream" in values:
        parts.append(("in a running stream", values["stream"]))
    busy = values.get("busy")
    if busy and "stream" in busy:
        parts.append((f"in a stream beside {busy['jobs']} busy jobs", busy["stream"]))
    for title, part in parts:
        stamps.add_row(f"[bold]{title}[/bold]")
        for name, label in _STAMPS.items():
            if name in part["stamps_ms"]:
                stamps.add_row(f"  {label}", *_cells(part["stamps_ms"][name]))
    if busy:
        stamps.add_row(f"[bold]by itself, beside {busy['jobs']} busy jobs[/bold]")
        stamps.add_row(f"  {_STAMPS['first_sample']}", *_cells(busy["first_sound_ms"]))
    lengths = Table(title="A stretch, ms", title_justify="left")
    for column in ("length, s", "p50", "p95", "p99", "max", "n", "RTF"):
        lengths.add_column(column, justify="right")
    for row in values["lengths"]:
        cells = _cells(row["stretch_ms"])
        lengths.add_row(f"{row['stretch_s']:g}", *cells, f"{row['rtf']:.4f}")
    worked = values["stretch_processor_ms"]
    rest = [f"processor time of a stretch p50 {worked['p50']:.2f} ms"]
    rest += [f"jitter p99/p50 {values['jitter_p99_over_p50']}"]
    if busy:
        rest.append(f"busy {busy['jitter_p99_over_p50']}")
    if "stream" in values:
        stream = values["stream"]
        rest.append(f"{stream['underruns']} underruns in {stream['seconds']:g} s")
    shows = values["changed_after_ms"]
    if shows is not None:
        rest.append(f"a new condition shows {shows:g} ms into its stretch")
    rest.append(f"latents: {values['latent_stamp']}")
    return [head, stamps, lengths, "; ".join(rest) + "."]


def full_tables(
    rows: list[dict[str, Any]], *, seconds: float, hardware: str
) -> list[RenderableType]:
    """Return a table for each full-size model, and what is to be said about single rows.

    Parameters
    ----------
    rows : list of dict
        What `export.bench.full_size.time_full` returns; columns that do not fit are left out.
    seconds : float
        Of sound.
    hardware : str
    """
    from rich.table import Table

    parts: list[RenderableType] = []
    for model in dict.fromkeys(row["model"] for row in rows):
        title = f"{model}, random weights, {seconds:g} s of sound, {hardware}"
        table = Table(title=title, title_justify="left")
        for name in _FULL_COLUMNS:
            table.add_column(name, justify="left" if name in ("what", "engine") else "right")
        own = [row for row in rows if row["model"] == model]
        for row in own:
            table.add_row(*(str(row[name]) for name in _FULL_COLUMNS))
        parts.append(table)
        told = dict.fromkeys(f"{row['engine']}: {row['note']}" for row in own if row["note"])
        parts += list(told)
    return parts


def _cells(spread: dict[str, float]) -> list[str]:
    return [*(f"{spread[name]:.2f}" for name in ("p50", "p95", "p99", "max")), str(spread["n"])]


def _load(values: list[float] | None) -> str:
    return "unknown" if values is None else f"{values[0]:g}"
