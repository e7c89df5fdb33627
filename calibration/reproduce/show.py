"""A reproduction as a table on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from calibration.reproduce.record import Reproduction, Row
from models.errors import FileError

__all__ = ["print_tables", "to_markdown", "write_files"]

_HEAD = ("Row", "Metric", "Ours", "Paper", "Difference", "Controls", "Stamp")


def print_tables(page: Reproduction, console: Any) -> None:
    """Print checks, computed rows, what waits for what, and notes.

    Parameters
    ----------
    page : Reproduction
    console : rich.console.Console
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(page.title)}[/bold]")
    console.print(escape(page.claim))
    for check in page.checks:
        mark = "ok" if check.good else "[bold]DIFFERS[/bold]"
        told = escape(f"{check.name}: expected {check.expected}, got {check.found}")
        console.print(f"  {mark}  {told}")
    for name, using, rows in _groups(page):
        title = name if not using else f"{name}, with {using}"
        table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD)
        table.add_column("Row")
        table.add_column("Metric")
        for heading in ("Ours", "Paper", "Difference"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("Stamp")
        for row in rows:
            cells = _cells(row)
            table.add_row(*(escape(cell) for cell in (*cells[:5], cells[6])))
        console.print(table)
        for row in rows:
            beside = f"{row.name}, {row.metric}: {_cells(row)[5]}" if row.controls else ""
            for text in (beside, row.leaky and f"{row.name}, {row.metric}: {row.leaky}"):
                if text:
                    console.print(f"    {escape(text)}", style="dim")
            if row.remark:
                console.print(f"    {escape(row.name)}: {escape(row.remark)}", style="dim")
    for reason, left in _waiting(page).items():
        console.print(f"Waits for {escape(reason)}: {escape('; '.join(left))}.")
    for note in page.notes:
        console.print(f"Note: {escape(note)}")


def to_markdown(page: Reproduction) -> str:
    """Return the page as Markdown."""
    lines = [f"# {page.paper}", "", page.title, "", page.claim, "", f"Data: {page.data}"]
    if page.participants:
        lines += [f"Participants: {', '.join(page.participants)}"]
    if page.checks:
        lines += ["", "| Check | Expected | Got | |", "|---|---|---|---|"]
        lines += [
            _line((c.name, c.expected, c.found, "ok" if c.good else "differs")) for c in page.checks
        ]
    for name, using, rows in _groups(page):
        title = name if not using else f"{name}, with {using}"
        lines += ["", f"## {title}", "", _line(_HEAD), "|" + "---|" * len(_HEAD)]
        lines += [_line(_cells(row)) for row in rows]
        told = [f"- {r.name}: {text}" for r in rows for text in (r.leaky, r.remark) if text]
        lines += ["", *dict.fromkeys(told)] if told else []
    waiting = _waiting(page)
    if waiting:
        lines += ["", "## Not computed yet", ""]
        for reason, left in waiting.items():
            lines += [f"- waits for {reason}: {'; '.join(left)}"]
    if page.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in page.notes)]
    return "\n".join(lines) + "\n"


def write_files(page: Reproduction, out: Path) -> tuple[Path, Path]:
    """Write `reproduce-NAME.md` and `reproduce-NAME.json`.

    Raises
    ------
    FileError
        If they cannot be written.
    """
    markdown = out / f"reproduce-{page.paper}.md"
    values = out / f"reproduce-{page.paper}.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        markdown.write_text(to_markdown(page), encoding="utf-8")
        text = json.dumps(page.to_json(), indent=2, allow_nan=False)
        values.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise FileError(
            f"Cannot write to {out}: {error.strerror or error}. Check the folder and its rights."
        ) from error
    return markdown, values


def _groups(page: Reproduction) -> list[tuple[str, str, list[Row]]]:
    """Return the rows with a result by table and by what they were made with."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in page.rows:
        if row.ours is not None or not row.waits:
            found.setdefault((row.table, row.using), []).append(row)
    return [(*key, rows) for key, rows in found.items()]


def _waiting(page: Reproduction) -> dict[str, list[str]]:
    """Return what is waited for, and by which rows, shortly."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for row in page.rows:
        if row.ours is None and row.waits:
            found.setdefault(row.waits, {}).setdefault(row.table, {})[row.name] = None
    return {
        reason: [f"{table} ({', '.join(names)})" for table, names in tables.items()]
        for reason, tables in found.items()
    }


def _cells(row: Row) -> tuple[str, ...]:
    paper = row.published
    theirs = ""
    if paper is not None:
        theirs = "figure only" if paper.value is None else _number(paper.value)
        theirs += f" ± {_number(paper.error)}" if paper.error is not None else ""
        theirs += f" [{paper.mark}]"
    ours = "none" if row.ours is None else _number(row.ours)
    if row.ours is not None and row.error is not None:
        ours += f" ± {_number(row.error)}"
    difference = "" if row.difference is None else f"{row.difference:+.3f}"
    controls = ", ".join(f"{key} {_number(value)}" for key, value in row.controls.items())
    return row.name, row.metric, ours, theirs, difference, controls, row.stamp


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) >= 2:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2g}"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
