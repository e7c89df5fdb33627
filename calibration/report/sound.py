"""What the generated sound tells, as the report shows it: a table and a figure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from calibration.generated.scores import GeneratedScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_sound", "sound_table"]


def sound_table(sound: GeneratedScores) -> str:
    """Return the table, as HTML, with what it is said before it."""
    heads = ("", "identification", "standard error", "first of n", "by chance", "p", "clips")
    lines = []
    for row in sound.rows:
        cells = (
            f"{row.identification:.3f}",
            f"{row.standard_error:.3f}",
            f"{row.top_1:.2f} of {row.n_way}",
            f"{1 / row.n_way:.2f}",
            "" if row.permutation_p is None else f"{row.permutation_p:.2g}",
            str(row.n_clips),
        )
        shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><th scope='row'>{escape(row.told)}</th>{shown}</tr>")
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in heads)
    told = (
        f"Sound of the {sound.chain} chain by the generator {sound.generator}, at most "
        f"{sound.seconds_per_clip:g} s for each clip that was held out, analysed again by "
        f"{sound.judge}, which is not what was decoded to and did not teach the generator. Chance "
        "is 0.5. Of several strengths the first is the one that was set."
    )
    return (
        f"<h2>What the generated sound tells</h2><p>{escape(told)}</p>"
        f"<table><tr>{head}</tr>{''.join(lines)}</table>"
    )


def draw_sound(axes: Axes, sound: GeneratedScores, *, colour: str, control: str) -> None:
    """Draw a bar for each way to sound, with its standard error.

    Parameters
    ----------
    axes : matplotlib Axes
    sound : GeneratedScores
    colour, control : str
        Of what was decoded from this brain, and of what stands beside it.
    """
    rows = sound.rows[::-1]
    mine = ("embedding", "direct", "started")
    axes.barh(
        range(len(rows)),
        [row.identification for row in rows],
        xerr=[row.standard_error for row in rows],
        color=[colour if row.way in mine else control for row in rows],
        ecolor="#1c1c1c",
        height=0.6,
    )
    axes.set_yticks(range(len(rows)), [row.told for row in rows])
    axes.tick_params(axis="y", labelsize=8)
    axes.axvline(0.5, color="#1c1c1c", linestyle="--", linewidth=1)
    axes.set(xlim=(0.0, 1.05), xlabel="identification (dashed: chance)")
