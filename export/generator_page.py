"""The model card of an exported generator as a page: what it is, how it was made, its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from export.generator_files import GeneratorCard
from export.sources import STAGES

__all__ = ["NOT_FOR", "PAGE_FILE", "card_page", "figure_text", "time_text"]

PAGE_FILE = "card.md"
NOT_FOR = (
    "It was trained on procedural sounds unless its recipe says otherwise: tones, melodies, drums, "
    "vowels, noises, textures. It makes no intelligible speech and imitates no person's voice.",
    "What it makes from a decoded condition shows what the decoder found. It is no recording of "
    "what somebody heard or thought, no diagnosis, and no evidence.",
    "Keep the output behind a limiter when it goes to somebody's ears: a generator may be loud "
    "where the sound it was asked for was not.",
)
"""What the embedded generators must not be used for."""


def card_page(card: GeneratorCard) -> str:
    """Return the text of `card.md`."""
    spec = card.spec
    seconds = ", ".join(
        f"{n * spec.samples_per_frame / spec.sample_rate_hz:.2f}" for n in spec.stretches
    )
    lines = [
        f"# Generator: {spec.family} {spec.size}",
        "",
        f"- Conditions: {' and '.join(spec.conditions)}"
        + ("; can begin from the latents of a sound" if spec.startable else ""),
        f"- Sampler: {card.sampler}, {spec.steps} steps, guidance {card.guidance:g}",
        f"- Stretches: {seconds} s; {spec.held} latent frames held back and blended",
        f"- Sound: {spec.sample_rate_hz} Hz mono, {spec.delay_samples} samples behind its frames",
        f"- Precision: {card.precision}",
        f"- Licence: {card.licence}",
    ]
    if card.about:
        about = sorted(card.about.items(), key=_place)
        lines += ["", "## Training", "", *_tree(dict(about))]
    if card.parity:
        figures: Mapping[str, float | None] = card.parity.get("figures", {})
        lines += ["", "## Export beside torch", "", "| figure | value |", "|---|---|"]
        lines += [f"| {name} | {figure_text(value)} |" for name, value in sorted(figures.items())]
        lines += ["", *(f"Not kept: {text}." for text in card.parity.get("failed", []))]
    if spec.family == "small":
        lines += ["", "## What it is not for", "", *(f"- {text}" for text in NOT_FOR)]
    return "\n".join(lines).rstrip() + "\n"


def time_text(seconds: float | None) -> str:
    """Return how long something took, as it is shown; None where that is not known."""
    if seconds is None:
        return "time not recorded"
    return f"{seconds / 3600.0:.1f} h" if seconds >= 3600 else f"{seconds / 60.0:.0f} min"


def figure_text(value: float | None) -> str:
    """Return a figure of parity as it is shown; those that were not finite are null."""
    return "not finite" if value is None else f"{value:.3g}"


def _place(item: tuple[str, Any]) -> tuple[int, str]:
    """Return where something stands on the page: stages as they follow one another, the rest."""
    name = item[0]
    return (STAGES.index(name) if name in STAGES else len(STAGES)), name


def _tree(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}- {name}"
            yield from _tree(value, f"{indent}  ")
        elif name == "seconds":
            yield f"{indent}- time: {time_text(value)}"
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else value
            yield f"{indent}- {name}: {shown}"
