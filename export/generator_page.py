"""The model card of an exported generator as a page: what it is, how it was made, its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from export.generator_files import GeneratorCard

__all__ = ["PAGE_FILE", "card_page", "figure_text"]

PAGE_FILE = "card.md"


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
        lines += ["", "## Training", "", *_tree(card.about)]
    if card.parity:
        figures: Mapping[str, float | None] = card.parity.get("figures", {})
        lines += ["", "## Export beside torch", "", "| figure | value |", "|---|---|"]
        lines += [f"| {name} | {figure_text(value)} |" for name, value in sorted(figures.items())]
        lines += ["", *(f"Not kept: {text}." for text in card.parity.get("failed", []))]
    return "\n".join(lines).rstrip() + "\n"


def figure_text(value: float | None) -> str:
    """Return a figure of parity as it is shown; those that were not finite are null."""
    return "not finite" if value is None else f"{value:.3g}"


def _tree(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}- {name}"
            yield from _tree(value, f"{indent}  ")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else value
            yield f"{indent}- {name}: {shown}"
