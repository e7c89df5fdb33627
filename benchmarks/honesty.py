"""Hold what a calibration claims against simulated listeners: `python -m benchmarks.honesty`.

Every cause of the recordings is known, so that identification, lag, ceilings, p values, selection
and leaks have a right answer. What falls short of its bound stays in the table. The oracle is ridge
regression on as much data as the calibration has, its penalty chosen knowing the truth; beside it
stands the best linear decoder, which knows responses and noise as if there were endless data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from benchmarks import rig
from benchmarks.honesty_decoding import (
    identification_follows_the_oracle,
    lag_is_recovered,
    lag_of_each_region_is_recovered,
    new_person_needs_few_minutes,
    nothing_at_zero_snr,
    previous_clip_is_not_decoded,
    price_of_running_live,
    regions_are_found,
)
from benchmarks.honesty_figure import Figure
from benchmarks.honesty_statistics import (
    ceiling_has_no_bias,
    leaks_are_found,
    permutation_p_is_uniform,
    selection_inside_folds_finds_nothing,
)

__all__ = ["main"]


def main() -> None:
    """Print the table and write it beside the other results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=12, help="simulations of each setting")
    parser.add_argument("--leak-seeds", type=int, default=50)
    parser.add_argument("--nulls", type=int, default=1_000, help="of the permutation p")
    chosen = parser.parse_args()
    n, few = chosen.seeds, max(2, chosen.seeds // 2)
    checks: tuple[Callable[[], list[Figure]], ...] = (
        lambda: identification_follows_the_oracle(n),
        lambda: nothing_at_zero_snr(3 * n),
        lambda: lag_is_recovered(max(2, n // 4)),
        lambda: lag_of_each_region_is_recovered(few),
        lambda: ceiling_has_no_bias(n),
        lambda: permutation_p_is_uniform(chosen.nulls),
        selection_inside_folds_finds_nothing,
        lambda: regions_are_found(few),
        lambda: previous_clip_is_not_decoded(n),
        lambda: leaks_are_found(chosen.leak_seeds),
        lambda: new_person_needs_few_minutes(n),
        lambda: price_of_running_live(n),
    )
    before, start, cpu = rig.machine(), time.perf_counter(), time.process_time()
    figures: list[Figure] = []
    for check in checks:
        found = check()
        figures += found
        for figure in found:
            print(" | ".join(figure.row().values()), flush=True)
        print(f"({time.process_time() - cpu:.0f} s of CPU so far)\n", flush=True)
    bound = [figure for figure in figures if figure.met is not None]
    rig.write_results(
        "honesty",
        title="What a calibration claims, held against simulated listeners",
        settings={
            **vars(chosen),
            "met": f"{sum(bool(figure.met) for figure in bound)} of {len(bound)} bounds",
            "wall_s": round(time.perf_counter() - start),
            "cpu_s": round(time.process_time() - cpu),
        },
        before=before,
        rows=[figure.row() for figure in figures],
    )


if __name__ == "__main__":
    main()
