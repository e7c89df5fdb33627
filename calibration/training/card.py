"""What a trained generator is, for those who use it: the model card, as fields and as a page."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from calibration.json_values import json_values
from calibration.training.checkpoint import FINAL, read_note
from calibration.training.settings import STAGES
from export.generator_page import NOT_FOR, time_text
from models.errors import FileError

__all__ = ["LICENCE", "card_fields", "model_card"]

LICENCE = "Apache-2.0"

_WHAT = {
    "encoder": "sounds and captions to unit vectors of 512 numbers, contrastive",
    "judge": "the same of another seed; scores, and takes no part in training the others",
    "codec": "four mel frames to 32 numbers each 40 ms, and back",
    "tokens": "masked autoencoder: mel windows to acoustic tokens",
    "vocoder": "mel frames to sound, causal",
    "generator": "flow matching on latents, given vector, tokens and the sound before",
    "distill": "the generator in one to four steps, guidance built in",
}


def card_fields(run_folder: Path) -> dict[str, Any]:
    """Return what is known of a training, as JSON holds it.

    Parameters
    ----------
    run_folder : Path
        What `hearback train` wrote.

    Returns
    -------
    fields : dict
        `licence`, `size`, `seed`, `sounds`, `recipe`, `seconds` (of what was trained here),
        `made_with` (None where it was not recorded), `begun_from` (digest of the card of the
        generator that it was begun from, None if of none), `stages` by name (`what`, `steps`,
        `seconds`, `scores`, `begun_from` if it was taken as it was), `not_for`.

    Raises
    ------
    FileError
        If no stage is finished there.
    """
    stages: dict[str, Any] = {}
    made_with: dict[str, Any] | None = None
    for name in STAGES:
        path = run_folder / name / FINAL
        if not path.exists():
            continue
        note = read_note(path)
        made_with = note.get("made_with") or made_with
        spent = note.get("seconds") or _logged_seconds(run_folder / name / "log.jsonl")
        stages[name] = {
            "what": _WHAT[name],
            "steps": note.get("step"),
            "seconds": spent,
            "scores": json_values(note.get("scores", {})),
            "begun_from": note.get("begun_from"),
        }
    if not stages:
        raise FileError(
            f"{run_folder} holds no finished stage. Train one: hearback train small --out "
            f"{run_folder}"
        )
    recipe = _recipe(run_folder / "run.json")
    return {
        "licence": LICENCE,
        "size": recipe.get("size"),
        "seed": recipe.get("seed"),
        "sounds": recipe.get("sounds"),
        "recipe": {
            name: recipe.get("encoder" if name == "judge" else name)
            for name, stage in stages.items()
            if stage["begun_from"] is None
        },
        "seconds": round(sum(s["seconds"] or 0.0 for s in stages.values() if not s["begun_from"])),
        "made_with": made_with,
        "begun_from": next(filter(None, (s["begun_from"] for s in stages.values())), None),
        "stages": stages,
        "not_for": list(NOT_FOR),
    }


def model_card(run_folder: Path) -> str:
    """Return the card of a training as a Markdown page.

    Parameters
    ----------
    run_folder : Path
        What `hearback train` wrote.

    Raises
    ------
    FileError
        If no stage is finished there.
    """
    fields = card_fields(run_folder)
    sounds, made = fields["sounds"] or {}, fields["made_with"]
    lines = [
        f"# Sound generator of hearback, {fields['size'] or 'unknown size'}",
        "",
        "Makes continuous sound at 16 kHz from a condition of 512 numbers, from acoustic tokens, "
        "or from a sound to begin with, in one to four steps a stretch.",
        "",
        f"Licence: {fields['licence']}. No weights of others were used.",
        "",
        "## How it was made",
        "",
        f"- Seed {fields['seed']}; everything follows from it and the recipe below.",
        f"- Sounds: {sounds.get('source', 'procedural')}, {sounds.get('clips', '?')} clips and "
        f"{sounds.get('blends', '?')} blends of 5.12 s, of each {sounds.get('held_out', '?')} held "
        "out.",
        f"- Time: {time_text(fields['seconds'])} in all.",
    ]
    if fields["begun_from"] is not None:
        lines.append(
            f"- Begun from an exported generator, sha256 of its card {fields['begun_from']}: what "
            "is marked so is its own, and the denoiser learnt on from its weights."
        )
    if made is not None:
        versions = ", ".join(f"{name} {value}" for name, value in made["versions"].items())
        lines += [
            f"- Machine: {made['machine']}; {made['threads']} thread(s) in {made['processes']} "
            "process(es).",
            f"- Versions: {versions}.",
        ]
    lines += ["", "## Stages and what they reach on sounds held out", ""]
    for name, stage in fields["stages"].items():
        spent = time_text(stage["seconds"]) + (", taken as it was" if stage["begun_from"] else "")
        lines.append(f"- **{name}**: {stage['what']}. {stage['steps']} steps, {spent}.")
        lines += [f"  - {key}: {_number(value)}" for key, value in stage["scores"].items()]
    lines += ["", "## Recipe", "", "```json", json.dumps(fields["recipe"], indent=1), "```"]
    lines += ["", "## What it is not for", "", *(f"- {text}" for text in fields["not_for"]), ""]
    return "\n".join(lines)


def _recipe(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _logged_seconds(path: Path) -> float | None:
    """Return the time between the lines of a log, without what lies between two calls."""
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        return None
    steps = [row for row in rows if row.get("steps_per_s")]
    if not steps:
        return None
    total = steps[0]["step"] / steps[0]["steps_per_s"]
    for before, after in pairwise(steps):
        total += max(after["step"] - before["step"], 0) / after["steps_per_s"]
    return round(float(total), 1)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
