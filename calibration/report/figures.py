"""The figures of the report: each takes the result and draws one thing that a reader asks."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.report.result import Curve, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure_png", "figures"]

# Okabe and Ito's colours: told apart by everybody.
_BLUE, _ORANGE, _GREEN, _GREY, _RED = "#0072B2", "#E69F00", "#009E73", "#7f7f7f", "#D55E00"
_FLOORS = (
    ("floor_shuffled", "shuffled brain"),
    ("floor_mean", "mean predictor"),
    ("floor_previous_clip", "previous clip"),
    ("floor_order", "order alone"),
)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    # Not pyplot: it keeps every figure alive and looks for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def figure_png(figure: Any, *, dpi: int = 130) -> str:
    """Return a figure as a data address, so that the page needs no other file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def figures(result: Result) -> list[tuple[str, str, Any]]:
    """Return (title, what it shows, figure) for all that the result has something for."""
    made: list[tuple[str, str, Any]] = [
        (
            "Score and what it is compared with",
            "Identification: how often a decoded sound resembles what was heard more than another "
            "one. The bar is the 95 % interval over clips.",
            _scale(result),
        )
    ]
    if len(result.by_label) > 1:
        made.append(("By class", "Identification of the clips of each class.", _by_label(result)))
    if len(result.similarity.values) > 1:
        made.append(
            (
                "Similarity",
                "Each decoded clip (row) against each clip that was heard (column); a bright "
                "diagonal is what is hoped for. Bright blocks: classes that are confused.",
                _similarity(result),
            )
        )
    if result.lag is not None and len(result.lag.x) > 1:
        told = (
            "Held-out score on training data if the brain answered so much later. Negative lags, "
            "an answer before the sound, show what order alone gives."
        )
        made.append(("Lag", told, _curve(result.lag, "lag (s)", log=False)))
    if result.alpha is not None and len(result.alpha.x) > 1:
        told = "Held-out score on training data for each penalty; the line is the median chosen."
        made.append(("Penalty", told, _curve(result.alpha, "alpha", log=True)))
    if result.map is not None:
        made.append(
            ("Map", "Where in the brain the decoder looks: weight of each voxel.", _map(result.map))
        )
    if result.regions:
        what = "Regions" if result.modality == "bold" else "Channels"
        made.append((what, f"{result.region_score}; filled: used.", _regions(result)))
    if result.families:
        told = (
            "The same decoder, scored with other things held out. A score that falls when whole "
            "sessions or people are held out was never about the sound."
        )
        made.append(("Ways to hold out", told, _families(result)))
    return made


def _scale(result: Result) -> Figure:
    figure, axes = _axes(8.0, 1.9)
    scores = result.scores
    value = float(scores["identification_ties_half"])
    low, high = scores.get("confidence_interval") or (value, value)
    colour = _GREEN if result.decodable else _RED
    axes.barh(0.0, high - low, left=low, height=0.34, color=colour, alpha=0.35)
    axes.plot([value], [0.0], "o", color=colour, markersize=11, zorder=3)
    axes.annotate(f"{value:.3f}", (value, 0.27), ha="center", color=colour, weight="bold")
    chance = float(scores.get("chance") or 0.5)
    axes.axvline(chance, color=_GREY, linestyle="--", linewidth=1)
    axes.annotate("chance", (chance, 0.62), ha="center", color=_GREY, fontsize=8)
    ceiling = scores.get("ceiling")
    if ceiling is not None and np.isfinite(ceiling):
        axes.axvline(float(ceiling), color=_BLUE, linewidth=1.5)
        axes.annotate("ceiling", (float(ceiling), 0.62), ha="center", color=_BLUE, fontsize=8)
    for row, (name, told) in enumerate(_FLOORS):
        floor = scores.get(name)
        if floor is None or not np.isfinite(floor):
            continue
        axes.plot([float(floor)], [-0.3 - 0.2 * row], "|", color=_ORANGE, markersize=9, mew=2)
        axes.annotate(
            told, (float(floor), -0.3 - 0.2 * row), xytext=(6, -3), textcoords="offset points",
            fontsize=7, color=_ORANGE,
        )  # fmt: skip
    axes.set(xlim=(min(0.35, value - 0.05, low - 0.05), 1.03), ylim=(-1.15, 0.85), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("identification")
    return figure


def _by_label(result: Result) -> Figure:
    names = sorted(result.by_label, key=lambda name: result.by_label[name])
    figure, axes = _axes(4.6, 0.8 + 0.24 * len(names))
    values = [result.by_label[name] for name in names]
    chance = float(result.scores.get("chance") or 0.5)
    axes.barh(names, values, color=[_BLUE if v > chance else _GREY for v in values])
    axes.axvline(chance, color=_GREY, linestyle="--", linewidth=1)
    axes.set(xlim=(0.0, 1.0), xlabel="identification")
    axes.tick_params(axis="y", labelsize=8)
    return figure


def _similarity(result: Result) -> Figure:
    from matplotlib.figure import Figure

    order = np.argsort(np.array(result.similarity.labels), kind="stable")
    values = result.similarity.values[np.ix_(order, order)]
    labels = np.array(result.similarity.labels)[order]
    figure = Figure(figsize=(4.8, 4.3), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="cividis", interpolation="nearest")
    figure.colorbar(image, ax=axes, label="similarity", shrink=0.8)
    names, first, counts = np.unique(labels, return_index=True, return_counts=True)
    if 1 < len(names) <= 30:
        middle = first + (counts - 1) / 2
        axes.set_xticks(middle, names, rotation=90, fontsize=7)
        axes.set_yticks(middle, names, fontsize=7)
        for edge in first[first > 0]:
            axes.axhline(edge - 0.5, color="white", linewidth=0.4)
            axes.axvline(edge - 0.5, color="white", linewidth=0.4)
    axes.set(xlabel="heard", ylabel="decoded")
    return figure


def _curve(curve: Curve, name: str, *, log: bool) -> Figure:
    figure, axes = _axes(4.6, 2.6)
    axes.plot(curve.x, curve.y, "o-", color=_BLUE, markersize=4)
    axes.axvline(curve.chosen, color=_ORANGE, linewidth=2, alpha=0.7)
    axes.annotate(
        f"{curve.chosen:g}", (curve.chosen, 1.0), xycoords=("data", "axes fraction"),
        xytext=(4, -8), textcoords="offset points", color=_ORANGE,
    )  # fmt: skip
    if log:
        axes.set_xscale("log")
    axes.axhline(0.0, color=_GREY, linewidth=0.6)
    axes.set(xlabel=name, ylabel=curve.score)
    return figure


def _regions(result: Result) -> Figure:
    shown = sorted(result.regions, key=lambda region: -region.score)[:24][::-1]
    figure, axes = _axes(4.6, 0.8 + 0.22 * len(shown))
    axes.barh(
        [f"{region.name} ({region.n})" for region in shown],
        [region.score for region in shown],
        color=[_BLUE if region.chosen else "white" for region in shown],
        edgecolor=_BLUE,
    )
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel(result.region_score)
    return figure


def _families(result: Result) -> Figure:
    shown = result.families[::-1]
    figure, axes = _axes(5.2, 0.9 + 0.32 * len(shown))
    axes.barh(
        [family.name + (" (leaky)" if family.leaky else "") for family in shown],
        [family.score for family in shown],
        color=[_ORANGE if family.leaky else _BLUE for family in shown],
    )
    for row, family in enumerate(shown):
        axes.plot([family.chance] * 2, [row - 0.4, row + 0.4], color=_GREY, linestyle="--")
        axes.annotate(f"{family.score:.2f}", (family.score, row), xytext=(3, -3),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_xlabel("score (dashed: chance)")
    return figure


def _map(volume: NDArray[np.float32]) -> Figure:
    from matplotlib.figure import Figure

    inside = np.isfinite(volume).any(axis=(0, 1))
    slices = np.flatnonzero(inside)
    if len(slices) > 12:
        slices = slices[np.linspace(0, len(slices) - 1, 12).round().astype(int)]
    columns = min(4, len(slices))
    rows = -(-len(slices) // columns)
    figure = Figure(figsize=(1.5 * columns + 0.9, 1.6 * rows), layout="constrained")
    all_axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    top = float(np.nanquantile(volume, 0.995))
    image = None
    for axes, z in zip(all_axes, slices, strict=False):
        image = axes.imshow(volume[:, :, z].T, origin="lower", cmap="inferno", vmin=0.0, vmax=top)
        axes.set_title(f"z = {z}", fontsize=7)
    for axes in all_axes:
        axes.axis("off")
    if image is not None:
        figure.colorbar(image, ax=list(all_axes), shrink=0.8, label="weight")
    return figure
