"""The report as one page: no other file, no network, readable in a minute, printable."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from calibration.report.figures import figure_png, figures
from calibration.report.result import Result
from calibration.whole_file import write_whole

__all__ = ["html_page", "write_report"]

_STYLE = """
:root { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; }
body { max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.45rem; margin: 0 0 .2rem; } h2 { font-size: 1.05rem; margin: 1.2rem 0 .3rem; }
.sub { color: #555; margin: 0 0 1rem; }
.verdict { border-left: .5rem solid; padding: .7rem 1rem; font-size: 1.1rem; margin: 1rem 0; }
.yes { border-color: #009E73; background: #e9f6f1; }
.no { border-color: #D55E00; background: #fcefe6; }
.leaky { border: 2px solid #D55E00; color: #a33f00; padding: .5rem 1rem; font-weight: 600; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(27rem, 1fr));
gap: 1rem 2rem; }
.wide { grid-column: 1 / -1; } figure { margin: 0; break-inside: avoid; }
figure img { max-width: 100%; } figcaption { color: #555; font-size: .85rem; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .18rem .8rem .18rem 0;
text-align: left; vertical-align: top; border-bottom: 1px solid #e5e5e5; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
details { margin: 1rem 0; } pre { white-space: pre-wrap; font-size: .8rem; }
"""

_TOLD = {
    "identification": "Identification, ties lose (the papers' formula)",
    "identification_ties_half": "Identification, ties at one half",
    "chance": "Chance",
    "confidence_interval": "95 % interval, bootstrap over clips",
    "permutation_p": "Permutation p (whole clips dealt out anew)",
    "n_permutations": "Permutations",
    "floor_shuffled": "Floor: shuffled brain",
    "floor_mean": "Floor: mean of the training targets",
    "floor_previous_clip": "Control: target of the clip before",
    "floor_order": "Control: position in the order alone",
    "ceiling": "Ceiling",
    "ceiling_told": "What the ceiling is",
    "accuracy": "Right class, of all classes",
    "accuracy_chance": "Right class by chance",
    "auc": "Area under the curve, mean over classes",
    "correlation": "Correlation with the target, mean over its dimensions",
    "identification_windows": "Identification, window by window",
    "n_clips": "Clips that were scored",
    "n_windows": "Windows that were scored",
}


def html_page(result: Result) -> str:
    """Return the page."""
    kind = "yes" if result.decodable else "no"
    shown = figures(result)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Calibration of {escape(result.participant)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Calibration of {escape(result.participant)}</h1>",
        f"<p class='sub'>{escape(result.dataset)} ({escape(result.format)}), decoded to "
        f"{escape(result.target)}; held out: {escape(result.split)}.</p>",
    ]
    if result.leaky:
        parts.append(
            "<p class='leaky'>LEAKY: parts of one recording stand in training and in test. This "
            "score does not say that anything about the sound was decoded.</p>"
        )
    parts.append(f"<div class='verdict {kind}'>{escape(result.verdict)}</div>")
    parts += [_list("Notes", result.notes), _list("Warnings", result.warnings)]
    parts.append("<div class='grid'>")
    for number, (title, told, figure) in enumerate(shown):
        wide = " class='wide'" if number == 0 else ""
        parts.append(
            f"<figure{wide}><h2>{escape(title)}</h2><img alt='{escape(title)}' "
            f"src='{figure_png(figure)}'><figcaption>{escape(told)}</figcaption></figure>"
        )
    parts.append("</div>")
    parts.append("<h2>All scores and controls</h2>" + _table(_score_rows(result.scores)))
    facts = {key.replace("_", " "): value for key, value in result.facts.items()}
    parts.append("<h2>What was done</h2>" + _table(facts.items()))
    settings = json.dumps({"settings": result.settings, "software": result.software}, indent=1)
    parts.append(
        f"<details><summary>Settings and versions</summary><pre>{escape(settings)}</pre></details>"
    )
    parts.append("</body></html>")
    return "\n".join(part for part in parts if part)


def write_report(result: Result, folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.html; each is there whole or not at all.

    Raises
    ------
    FileError
        If they cannot be written.
    """
    paths = folder / "report.json", folder / "report.html"
    write_whole(paths[0], result.json_text().encode())
    write_whole(paths[1], html_page(result).encode())
    return paths


def _score_rows(scores: dict[str, Any]) -> list[tuple[str, Any]]:
    known = [(told, scores[name]) for name, told in _TOLD.items() if scores.get(name) is not None]
    rest = [
        (name.replace("_", " "), value)
        for name, value in scores.items()
        if name not in _TOLD and value is not None and not isinstance(value, (dict, list))
    ]
    return known + rest


def _table(rows: Any) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"<td class='n'>{value:.4g}</td>"
        if isinstance(value, (tuple, list)) and all(isinstance(v, float) for v in value):
            return f"<td class='n'>{escape(' to '.join(f'{v:.4g}' for v in value))}</td>"
        return f"<td>{escape(str(value))}</td>"

    lines = [f"<tr><td>{escape(str(name))}</td>{cell(value)}</tr>" for name, value in rows]
    return f"<table>{''.join(lines)}</table>"


def _list(title: str, items: tuple[str, ...]) -> str:
    if not items:
        return ""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<h2>{title}</h2><ul>{lines}</ul>"
