"""The report as one page: no other file, no network, readable in a minute, printable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from calibration.report.figures import figure_png, figures
from calibration.report.result import Result
from calibration.report.sound import sound_table
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
.key { display: flex; flex-wrap: wrap; gap: .6rem 2.2rem; margin: 0 0 1.2rem; color: #555; }
.key b { display: block; font-size: 1.35rem; color: #1c1c1c; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .18rem .8rem .18rem 0;
text-align: left; vertical-align: top; border-bottom: 1px solid #e5e5e5;
overflow-wrap: anywhere; } th { font-weight: normal; color: #555; min-width: 16rem; }
td { font-variant-numeric: tabular-nums; } h1, .sub, li, .verdict { overflow-wrap: anywhere; }
details { margin: 1rem 0; } pre { white-space: pre-wrap; font-size: .8rem; }
@media (max-width: 32rem) { .grid { grid-template-columns: 1fr; } th { min-width: 8rem; } }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; }
.verdict, .leaky { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.grid { grid-template-columns: 1fr 1fr; } tr, li { break-inside: avoid; } }
"""

_MOST = 20  # warnings and notes on the page; the JSON has all

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
    "standard_error": "Standard error",
    "null_95": "95 % of the permutations lie below",
    "shuffled_kind": "What the shuffled brain is",
}
_TOLD_CLASSES = {
    "confidence_interval": "95 % interval, bootstrap over presentations",
    "permutation_p": "Permutation p (presentations dealt out anew within runs)",
    "floor_previous_clip": "Control: class of the presentation before",
    "n_clips": "Presentations that were scored",
}
_FACTS = {
    "windows_trained": "Windows trained on",
    "clips_trained": "Different sounds or classes trained on",
    "features": "Features of a window",
    "dimensions": "Dimensions that are decoded",
    "test_openings": "How often this test was scored",
    "lag_s": "Lag, s",
    "held_out_correlation": "Held-out correlation, training data",
    "fit_s": "Fit for the bundle, s",
    "seconds": "In all, s",
    "peak_mb": "Largest memory, MB",
    "steps_found": "Steps taken over from an earlier run",
}


def html_page(result: Result) -> str:
    """Return the page."""
    kind = "yes" if result.decodable else "no"
    who = escape(_plain(result.participant))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Calibration of {who}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Calibration of {who}</h1>",
        f"<p class='sub'>{escape(_plain(result.dataset))} ({escape(result.format)}), decoded to "
        f"{escape(_plain(result.target))}; held out: {escape(_plain(result.split))}.</p>",
    ]
    if result.leaky:
        parts.append(
            "<p class='leaky'>LEAKY: parts of one recording stand in training and in test. This "
            "score does not say that anything about the sound was decoded.</p>"
        )
    parts.append(f"<div class='verdict {kind}'>{escape(_plain(result.verdict))}</div>")
    parts.append(_key_figures(result))
    parts.append("<div class='grid'>")
    for number, (title, told, figure) in enumerate(figures(result)):
        wide = " class='wide'" if number == 0 else ""
        parts.append(
            f"<figure{wide}><h2>{escape(title)}</h2>"
            f"<img alt='{escape(_alternative(title, told, result), quote=True)}' "
            f"src='{figure_png(figure)}'><figcaption>{escape(told)}</figcaption></figure>"
        )
    parts.append("</div>")
    parts += [_list("Warnings", result.warnings), _list("Notes", result.notes)]
    if result.families:
        parts.append(_list("Ways to hold out, in words", [f.told for f in result.families]))
    if result.sound is not None:
        parts.append(sound_table(result.sound))
    words = _TOLD | (_TOLD_CLASSES if result.of_classes else {})
    parts.append("<h2>All scores and controls</h2>" + _table(_score_rows(result.scores, words)))
    parts.append("<h2>What was done</h2>" + _table(_fact_rows(result.facts)))
    settings = json.dumps(
        {"settings": result.settings, "software": result.software}, indent=1, ensure_ascii=False
    )
    parts.append(
        "<details><summary>Settings and versions</summary>"
        f"<pre>{escape(_plain(settings))}</pre></details>"
    )
    parts.append("</body></html>")
    return "\n".join(part for part in parts if part)


def _key_figures(result: Result) -> str:
    """Return the numbers that decide, large and in one line."""
    scores = result.scores
    floors = [
        float(scores[name])
        for name in ("floor_shuffled", "floor_mean", "floor_previous_clip", "floor_order")
        if scores.get(name) is not None
    ]
    p = scores.get("permutation_p")
    found = [
        ("identification", _score(scores["identification_ties_half"])),
        ("chance", _score(scores.get("chance"))),
        ("highest floor", _score(max(floors) if floors else None)),
        ("ceiling", _score(scores.get("ceiling"))),
        ("p", None if p is None else f"{p:.2g}"),
        ("presentations" if result.of_classes else "clips", scores.get("n_clips")),
    ]
    boxes = "".join(
        f"<div><b>{escape(str(value))}</b>{escape(name)}</div>"
        for name, value in found
        if value is not None
    )
    return f"<div class='key'>{boxes}</div>"


def _score(value: Any) -> str | None:
    return None if value is None else f"{float(value):.3f}"


def _alternative(title: str, told: str, result: Result) -> str:
    """Return what a figure shows, for those who do not see it."""
    if title.startswith("Score"):
        interval = result.scores.get("confidence_interval")
        between = "" if interval is None else f" ({_cell(tuple(interval))})"
        return f"Identification {_score(result.scores['identification_ties_half'])}{between}."
    if title == "By class":
        ranked = sorted(result.by_label.items(), key=lambda item: -item[1])
        return f"{told} " + ", ".join(f"{_plain(k)} {v:.2f}" for k, v in ranked[:12])
    if title == "Lag" and result.lag is not None:
        return f"{told} Best at {result.lag.chosen:g} s."
    return told


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


def _score_rows(scores: dict[str, Any], told: dict[str, str]) -> list[tuple[str, str]]:
    there = [name for name, value in scores.items() if value is not None]
    known = [(words, _cell(scores[name], name)) for name, words in told.items() if name in there]
    rest = [
        (_words(name), _cell(scores[name], name))
        for name in there
        if name not in told and not isinstance(scores[name], (dict, list))
    ]
    return known + rest


def _fact_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (_FACTS.get(name, _words(name)), _cell(value, name))
        for name, value in facts.items()
        if value is not None and value != []
    ]


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _cell(value: Any, name: str = "") -> str:
    """Return a value as it is read: scores to three places, a p to two figures."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if name.endswith("_p"):
            return f"{value:.2g}"
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (tuple, list)):
        between = " to " if name == "confidence_interval" or _numbers(value) else ", "
        return between.join(_cell(item) for item in value)
    return _plain(str(value))


def _numbers(values: Any) -> bool:
    return len(values) == 2 and all(isinstance(value, float) for value in values)


def _plain(text: str) -> str:
    """Return text without characters that no page may hold."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = [
        f"<tr><th scope='row'>{escape(_plain(name))}</th><td>{escape(value)}</td></tr>"
        for name, value in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    shown = [*items[:_MOST], f"and {len(items) - _MOST} more"] if len(items) > _MOST else items
    lines = "".join(f"<li>{escape(_plain(item))}</li>" for item in shown)
    return f"<h2>{escape(title)}</h2><ul>{lines}</ul>"
