"""The figures of the report: each takes the result and draws one thing that a reader asks."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.report.result import Curve, Result
from calibration.report.sound import draw_sound
from models.errors import SettingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure_png", "figures"]

# Okabe and Ito's colours: told apart by everybody.
_BLUE, _ORANGE, _GREEN, _GREY, _RED = "#0072B2", "#E69F00", "#009E73", "#7f7f7f", "#D55E00"
_FLOORS = (
    ("floor_shuffled", "shuffled brain"),
    ("floor_mean", "mean of the training"),
    ("floor_previous_clip", "what was heard before"),
    ("floor_order", "order alone"),
)
_MANY = 40  # bars that can still be read; of more the best and the worst are shown


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _figure(width: float, height: float) -> Figure:
    try:
        # Not pyplot: it keeps every figure alive and looks for a display.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError(
            "The report needs the package matplotlib, of the extra calibrate: "
            "pip install 'hearback[calibrate]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def _text(name: str, most: int = 28) -> str:
    """Return a name as it is, and not as the formula that matplotlib sees between dollar signs."""
    short = name if len(name) <= most else name[: most - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in short).replace("$", r"\$")


def figure_png(figure: Any, *, dpi: int = 130) -> str:
    """Return a figure as a data address, so that the page needs no other file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def figures(result: Result) -> list[tuple[str, str, Any]]:
    """Return (title, what it shows, figure) for all that the result has something for."""
    classes = result.of_classes
    made: list[tuple[str, str, Any]] = [
        (
            "Score and what it is compared with",
            "Identification: how often what was decoded resembles what was heard more than "
            "something else (0.5 by chance, 1 always). The bar is the 95 % interval; orange marks "
            "are what a score without decoding comes to.",
            _scale(result),
        )
    ]
    if result.sound is not None:
        made.append(
            (
                "Generated sound",
                "Identification when the sound that was generated is analysed again, by another "
                "encoder than the one that was decoded to; whiskers are standard errors. Grey: "
                "controls.",
                _sound(result),
            )
        )
    if len(result.by_label) > 1:
        told = "single presentations" if classes else "the clips"
        few = f", the {_MANY // 2} best and worst" if len(result.by_label) > _MANY else ""
        made.append(
            ("By class", f"Identification of {told} of each class{few}.", _by_label(result))
        )
    if len(result.similarity.values) > 1:
        rows = (
            "What was decoded of presentations of each class (row), towards each class (column)"
            if classes
            else "Each decoded clip (row) against each clip that was heard (column)"
        )
        made.append(
            (
                "Similarity",
                f"{rows}; a bright diagonal is what is hoped for. Bright elsewhere: what is "
                "confused.",
                _similarity(result),
            )
        )
    if result.lag is not None and len(result.lag.x) > 1:
        told = (
            f"{_capital(result.lag.score)}, if the brain answered so much later; the line is the "
            "lag that was chosen. Negative lags, an answer before the sound, show what order alone "
            "gives."
        )
        made.append(("Lag", told, _curve(result.lag, "lag (s)", log=False)))
    if result.alpha is not None and len(result.alpha.x) > 1:
        told = (
            f"{_capital(result.alpha.score)}, for each penalty (alpha) of the ridge regression; "
            "the line is the median that was chosen."
        )
        made.append(("Penalty", told, _curve(result.alpha, "alpha", log=True)))
    if result.map is not None and np.isfinite(result.map).any():
        made.append(
            (
                "Map",
                "Where in the brain the decoder looks: weight of each voxel, the largest 1.",
                _map(result.map),
            )
        )
    if result.regions:
        what = "Regions" if result.modality == "bold" else "Channels"
        each = "voxels" if result.modality == "bold" else "features"
        used = "" if all(region.chosen for region in result.regions) else "; filled: used"
        best = f" The best {_REGIONS} are shown." if len(result.regions) > _REGIONS else ""
        told = f"{_capital(result.region_score)} (number of {each}){used}.{best}"
        made.append((what, told, _regions(result)))
    if result.families:
        told = (
            "A quick decoder on the training part, with other things held out. A score that falls "
            "when whole runs or sessions are held out rests on recognising the recording, not on "
            "the sound; orange ones leak, or can, and are shown for comparison alone."
        )
        made.append(("Ways to hold out", told, _families(result)))
    return made


_REGIONS = 24


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number(value: Any) -> float | None:
    """Return a score that is there, as a number."""
    if value is None or not np.isfinite(value):
        return None
    return float(value)


def _scale(result: Result) -> Figure:
    scores = result.scores
    value = float(scores["identification_ties_half"])
    low, high = scores.get("confidence_interval") or (value, value)
    rows: list[tuple[str, float, str]] = [("this participant", value, "score")]
    ceiling = _number(scores.get("ceiling"))
    if ceiling is not None:
        rows.append(("ceiling", ceiling, "ceiling"))
    found = [(told, _number(scores.get(name))) for name, told in _FLOORS]
    rows += [(told, floor, "floor") for told, floor in found if floor is not None]
    figure, axes = _axes(8.0, 0.85 + 0.3 * len(rows))
    chance = float(scores.get("chance") or 0.5)
    axes.axvline(chance, color=_GREY, linestyle="--", linewidth=1, zorder=0)
    main = _GREEN if result.decodable else _RED
    colours = {"score": main, "ceiling": _BLUE, "floor": _ORANGE}
    least = min(0.35, low - 0.03, *(at - 0.03 for _, at, _ in rows))
    for row, (_, at, kind) in enumerate(rows):
        axes.plot([least, at], [row, row], color="#e5e5e5", linewidth=1, zorder=0)
        if kind == "score":
            axes.barh(row, high - low, left=low, height=0.55, color=main, alpha=0.35)
        mark, size = ("o", 11) if kind == "score" else ("|", 13)
        axes.plot([at], [row], mark, color=colours[kind], markersize=size, mew=2.5, zorder=3)
        axes.annotate(
            f"{at:.3f}", (1.01, row), xycoords=("axes fraction", "data"), va="center",
            color=colours[kind], weight="bold" if kind == "score" else "normal",
            annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set(xlim=(max(0.0, least), 1.02), ylim=(len(rows) - 0.5, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"identification (dashed: chance, {chance:g})")
    return figure


def _sound(result: Result) -> Figure:
    assert result.sound is not None
    figure, axes = _axes(8.0, 0.8 + 0.26 * len(result.sound.rows))
    draw_sound(axes, result.sound, colour=_BLUE, control=_GREY)
    return figure


def _by_label(result: Result) -> Figure:
    names = sorted(result.by_label, key=lambda name: result.by_label[name])
    if len(names) > _MANY:
        names = names[: _MANY // 2] + names[-(_MANY // 2) :]
    figure, axes = _axes(4.6, 0.8 + 0.24 * len(names))
    values = [result.by_label[name] for name in names]
    chance = float(result.scores.get("chance") or 0.5)
    # By place, not by name: names that were cut may be the same.
    axes.barh(range(len(names)), values, color=[_BLUE if v > chance else _GREY for v in values])
    axes.set_yticks(range(len(names)), [_text(name) for name in names])
    axes.axvline(chance, color=_GREY, linestyle="--", linewidth=1)
    axes.set(xlim=(0.0, 1.0), xlabel="identification (dashed: chance)")
    axes.tick_params(axis="y", labelsize=8)
    return figure


def _similarity(result: Result) -> Figure:
    order = np.argsort(np.array(result.similarity.labels), kind="stable")
    values = result.similarity.values
    if values.shape[0] == values.shape[1] == len(order):
        values = values[np.ix_(order, order)]  # of several people there are more rows than columns
    labels = np.array(result.similarity.labels)[order]
    small = len(values) <= 3
    figure = _figure(3.4 if small else 4.8, 2.9 if small else 4.3)
    axes = figure.subplots()
    image = axes.imshow(values, cmap="cividis", interpolation="nearest", aspect="auto")
    figure.colorbar(image, ax=axes, label="similarity", shrink=0.8)
    names, first, counts = np.unique(labels, return_index=True, return_counts=True)
    if 1 < len(names) <= 30 and values.shape[0] == values.shape[1]:
        middle = first + (counts - 1) / 2
        shown = [_text(str(name), 16) for name in names]
        axes.set_xticks(middle, shown, rotation=90 if len(names) > 3 else 0, fontsize=7)
        axes.set_yticks(middle, shown, fontsize=7)
        for edge in first[first > 0]:
            axes.axhline(edge - 0.5, color="white", linewidth=0.4)
            axes.axvline(edge - 0.5, color="white", linewidth=0.4)
    if result.of_classes:
        axes.set(xlabel="decoded as", ylabel="heard")
    else:
        axes.set(xlabel="heard", ylabel="decoded")
    return figure


def _curve(curve: Curve, name: str, *, log: bool) -> Figure:
    figure, axes = _axes(4.6, 2.6)
    axes.plot(curve.x, curve.y, "o-", color=_BLUE, markersize=4)
    axes.axvline(curve.chosen, color=_ORANGE, linewidth=2, alpha=0.7)
    if log:
        axes.set_xscale("log" if min(curve.x) > 0 else "symlog")
    axes.set_title(f"chosen: {_short(curve.chosen)}", loc="right", fontsize=9, color=_ORANGE)
    axes.axhline(0.0, color=_GREY, linewidth=0.6)
    axes.set(xlabel=name, ylabel=curve.score.split(",")[0])
    return figure


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _regions(result: Result) -> Figure:
    shown = sorted(result.regions, key=lambda region: -region.score)[:_REGIONS][::-1]
    figure, axes = _axes(4.6, 0.8 + 0.22 * len(shown))
    axes.barh(
        range(len(shown)),
        [region.score for region in shown],
        color=[_BLUE if region.chosen else "white" for region in shown],
        edgecolor=_BLUE,
    )
    names = [f"{_text(region.name)} ({region.n})" for region in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel(result.region_score.split(",")[0], loc="right", fontsize=9)
    return figure


def _families(result: Result) -> Figure:
    shown = result.families[::-1]
    figure, axes = _axes(5.2, 0.9 + 0.32 * len(shown))
    axes.barh(
        [_FAMILY.get(family.name, family.name) for family in shown],
        [family.score for family in shown],
        color=[_ORANGE if family.leaky else _BLUE for family in shown],
    )
    for row, family in enumerate(shown):
        axes.plot([family.chance] * 2, [row - 0.4, row + 0.4], color=_GREY, linestyle="--")
        axes.annotate(f"{family.score:.2f}", (family.score, row), xytext=(3, -3),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_xlim(min(0.0, *(family.score for family in shown)), 1.08)
    axes.set_xlabel("identification (dashed: chance)")
    return figure


_FAMILY = {
    "clip": "clips",
    "run": "runs",
    "session": "sessions",
    "person": "people",
    "song": "classes",
    "segment": "stretches of trials",
    "random-chunk": "random chunks",
}


def _map(volume: NDArray[np.float32]) -> Figure:
    inside = np.isfinite(volume).any(axis=(0, 1))
    slices = np.flatnonzero(inside)
    if len(slices) > 12:
        slices = slices[np.linspace(0, len(slices) - 1, 12).round().astype(int)]
    where = np.argwhere(np.isfinite(volume).any(axis=2))  # without the air around the head
    (x0, y0), (x1, y1) = where.min(axis=0), where.max(axis=0) + 1
    columns = min(4, len(slices))
    rows = -(-len(slices) // columns)
    figure = _figure(1.35 * columns + 0.9, 1.5 * rows + 0.2)
    all_axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    top = float(np.nanquantile(volume, 0.995)) or 1.0
    image = None
    for axes, z in zip(all_axes, slices, strict=False):
        image = axes.imshow(
            volume[x0:x1, y0:y1, z].T, origin="lower", cmap="inferno", vmin=0.0, vmax=top
        )
        axes.set_title(f"slice {z}", fontsize=9)
    for axes in all_axes:
        axes.axis("off")
    if image is not None:
        figure.colorbar(image, ax=list(all_axes), shrink=0.8, label="weight")
    return figure
