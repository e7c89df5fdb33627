"""The measurement as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["bench_tables", "rows_table"]

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
        "after"
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


def rows_table(
    rows: list[dict[str, Any]], *, title: str, columns: tuple[str, ...] | None = None
) -> RenderableType:
    """Return rows, all with the keys of the first, as a table.

    Parameters
    ----------
    rows : list of dict
        At least one.
    title : str
    columns : tuple of str, optional
        Which to show; default: all.
    """
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    shown = columns or tuple(rows[0])
    for name in shown:
        words = name in ("model", "what", "engine", "note")
        made.add_column(name, justify="left" if words else "right", no_wrap=name != "note")
    for row in rows:
        made.add_row(*(str(row[name]) for name in shown))
    return made


def _cells(spread: dict[str, float]) -> list[str]:
    return [*(f"{spread[name]:.2f}" for name in ("p50", "p95", "p99", "max")), str(spread["n"])]


def _load(values: list[float] | None) -> str:
    return "unknown" if values is None else f"{values[0]:g}"
