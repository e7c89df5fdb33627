"""Play sound through a failing generator, simulated: `python -m benchmarks.playback --minutes 30`.

A 48-kHz sink asks for a block each 10 ms of simulated time. The generator makes 100-ms blocks of a
continuous tone, stalls at random for 0 to 500 ms, gives bursts of NaN, infinity and 1e30, and now
and then is 18 dB too loud. Beside hearback's player, the same blocks go through what most real-time
audio code does: a FIFO that plays zeros when it is empty and passes on what it is given.

The number of underruns that must be counted comes from sample counts alone, without the player.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.limiter import dbfs
from stream.messages import FeatureWindow, Sound
from stream.playback import Player

RATE = 48_000
BLOCK = 480
SOUND = 4_800
FADE = 480
LEAD_S = 0.06
CEILING_DBFS = -12.0
TONE_HZ = 117.3  # no whole number of periods in a sound, which would flatter a policy that cuts
AMPLITUDE = 0.1
STEP_LIMIT_DBFS = -50.0
BAD = (float("nan"), float("inf"), float("-inf"), 1e30)


@dataclass
class Listener:
    """Measures what comes out: peaks, steps, invalid samples; memory of two samples."""

    n: int = 0
    peak: float = 0.0
    not_finite: int = 0
    above_ceiling: int = 0
    clicks: int = 0  # places with a step above the limit, 5 ms apart at least
    largest_step: float = 0.0
    _last: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2), repr=False)
    _last_click: int = -RATE

    def hear(self, block: NDArray[np.float32]) -> None:
        """Take the next block, (n, 1)."""
        x = block[:, 0].astype(np.float64)
        good = np.isfinite(x)
        self.not_finite += int((~good).sum())
        # A converter makes something of NaN and infinity; full scale stands for it here.
        x = np.clip(np.where(good, x, 1.0), -1e6, 1e6)
        self.peak = max(self.peak, float(np.abs(x).max()))
        self.above_ceiling += int((np.abs(x) > 10 ** (CEILING_DBFS / 20)).sum())
        steps = np.abs(np.diff(np.concatenate([self._last, x]), n=2))
        self._last = x[-2:]
        self.largest_step = max(self.largest_step, float(steps.max()))
        for at in np.flatnonzero(steps > 10 ** (STEP_LIMIT_DBFS / 20)):
            if self.n + at - self._last_click >= 0.005 * RATE:
                self.clicks += 1
            self._last_click = self.n + int(at)
        self.n += len(x)


class ZeroFill:
    """The usual policy: play what is there, zeros for what is not."""

    def __init__(self) -> None:
        self._held = np.zeros((0, 1), np.float32)
        self.short_blocks = 0

    def queue(self, pcm: NDArray[np.float32]) -> None:
        """Add a sound."""
        self._held = np.concatenate([self._held, pcm])

    def render_block(self, n: int) -> NDArray[np.float32]:
        """Return the next block."""
        out = np.zeros((n, 1), np.float32)
        have = min(n, len(self._held))
        out[:have] = self._held[:have]
        self._held = self._held[have:]
        self.short_blocks += have < n
        return out


class Expected:
    """How many underruns there are, from sample counts alone."""

    def __init__(self) -> None:
        self.underruns = 0
        self._held = self._fresh = self._waited = self._level = 0
        self._state = "waiting"

    def arrive(self, n: int) -> None:
        """Hear that a sound of `n` samples was queued."""
        if self._state == "falling":
            self._fresh += n
        else:
            self._held += n

    def block(self) -> None:
        """Hear that a block was asked for."""
        if self._state == "waiting":
            if self._held >= BLOCK + FADE and self._waited >= round(LEAD_S * RATE):
                self._state = "playing"
            elif self._held:
                self._waited += BLOCK
        if self._state == "playing":
            # After this block, is there still sound to fade out with?
            self._level = min(FADE, self._level + BLOCK)
            if self._held - BLOCK < self._level:
                self.underruns += 1
                self._state, self._waited, self._fresh = "falling", 0, 0
            self._held -= BLOCK
        elif self._state == "falling":
            self._held -= BLOCK
        if self._state == "falling" and self._held <= 0:
            self._state, self._held, self._level = "waiting", self._fresh, 0


@dataclass
class Injected:
    """What the generator did."""

    sounds: int = 0
    stalls: int = 0
    stalls_beyond_lead: int = 0
    longest_stall_ms: float = 0.0
    bad_bursts: int = 0
    bad_samples: int = 0
    too_loud: int = 0


def generator(
    rng: np.random.Generator, told: Injected
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (block number at which it arrives, sound), for ever."""
    due, sample = 0.0, 0
    while True:
        due += SOUND
        if rng.random() < 0.05:
            stall = rng.uniform(0.0, 0.5)
            due += stall * RATE
            told.stalls += 1
            told.stalls_beyond_lead += stall > LEAD_S
            told.longest_stall_ms = max(told.longest_stall_ms, 1000 * stall)
        at = sample + np.arange(SOUND)
        sample += SOUND
        pcm = AMPLITUDE * np.sin(2 * np.pi * TONE_HZ / RATE * at)
        if rng.random() < 0.02:
            pcm *= 1.0 + 7.0 * np.sin(np.pi * (np.arange(SOUND) + 0.5) / SOUND) ** 2
            told.too_loud += 1
        pcm = pcm.astype(np.float32)[:, None]
        if rng.random() < 0.02:
            start, n = int(rng.integers(SOUND - 1)), int(rng.integers(1, 1000))
            pcm[start : start + n] = rng.choice(BAD)
            told.bad_bursts += 1
            told.bad_samples += min(n, SOUND - start)
        told.sounds += 1
        yield int(np.ceil(due / BLOCK)), pcm


def simulate(minutes: float, seed: int) -> dict[str, Any]:
    """Run both policies over the same blocks; return all figures."""
    told, expected, zero_fill = Injected(), Expected(), ZeroFill()
    ours, theirs = Listener(), Listener()
    player = Player(
        sample_rate_hz=RATE, ceiling_dbfs=CEILING_DBFS, lead_s=LEAD_S, fade_s=FADE / RATE
    )
    sounds = generator(np.random.default_rng(seed), told)
    arrives, pcm = next(sounds)
    n_blocks = round(minutes * 60 * RATE / BLOCK)
    spent, worked = np.zeros(n_blocks), np.zeros(n_blocks)  # s, wall and CPU
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_logged = n_log_pieces = seq = n_bad = 0
    progress = time.monotonic()
    for k in range(n_blocks):
        while arrives <= k:
            window = FeatureWindow(np.zeros(1, np.float32), seq, 0, 1, 0.0, k * BLOCK / RATE)
            player.queue(Sound(pcm, RATE, window, 0.0, 0.0))
            zero_fill.queue(pcm)
            expected.arrive(len(pcm))
            seq += 1
            n_bad = told.bad_samples
            arrives, pcm = next(sounds)
        start, cpu = time.perf_counter(), time.thread_time()
        block = player.render_block(BLOCK, k * BLOCK / RATE)
        worked[k], spent[k] = time.thread_time() - cpu, time.perf_counter() - start
        expected.block()
        ours.hear(block)
        theirs.hear(zero_fill.render_block(BLOCK))
        for piece in player.drain_played():
            n_logged += piece.n_samples
            n_log_pieces += 1
        if k == n_blocks // 2:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if time.monotonic() > progress + 2:
            progress = time.monotonic()
            print(f"{k / n_blocks:4.0%} of {minutes:g} simulated minutes", flush=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    statistics = player.statistics()
    player.abort()
    player.render_block(BLOCK, 0.0)
    after_abort = max(float(np.abs(player.render_block(BLOCK, 0.0)).max()) for _ in range(100))
    return {
        "minutes": minutes,
        "seed": seed,
        "injected": asdict(told),
        "expected": {"samples": n_blocks * BLOCK, "underruns": expected.underruns, "bad": n_bad},
        "hearback": {
            "samples": ours.n,
            "samples_in_log": n_logged,
            "underruns": statistics.underruns,
            "bad_samples_replaced": statistics.n_invalid,
            "bad_samples_out": ours.not_finite,
            "peak_dbfs": dbfs(ours.peak),
            "samples_above_ceiling": ours.above_ceiling,
            "clicks": ours.clicks,
            "largest_step_dbfs": dbfs(ours.largest_step),
            "peak_after_abort_block": after_abort,
            "block_wall_us": percentiles_us(spent),
            "block_cpu_us": percentiles_us(worked),
            "cpu_percent_of_a_core": 100 * float(worked.sum()) / (minutes * 60),
            "memory_grown_in_second_half_kib": grown,
        },
        "zero_fill": {
            "samples": theirs.n,
            "short_blocks": zero_fill.short_blocks,
            "bad_samples_out": theirs.not_finite,
            "peak_dbfs": dbfs(theirs.peak),
            "samples_above_ceiling": theirs.above_ceiling,
            "clicks": theirs.clicks,
            "largest_step_dbfs": dbfs(theirs.largest_step),
        },
    }


def percentiles_us(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Return median, 99th percentile and maximum in microseconds."""
    p50, p99, longest = 1e6 * np.percentile(seconds, [50, 99, 100])
    return {"p50": float(p50), "p99": float(p99), "max": float(longest)}


def machine() -> dict[str, Any]:
    """Return what the figures depend on; no host name."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def as_table(result: dict[str, Any]) -> str:
    """Return the result as a Markdown page."""
    ours, theirs = result["hearback"], result["zero_fill"]
    told, expected, where = result["injected"], result["expected"], result["machine"]

    def row(name: str, wanted: object, left: object, right: object) -> str:
        cells = [f"{x:.1f}" if isinstance(x, float) else str(x) for x in (wanted, left, right)]
        return "| " + " | ".join([name, *cells]) + " |"

    lines = [
        "# Playback under a failing generator",
        "",
        f"`python -m benchmarks.playback --minutes {result['minutes']:g} --seed {result['seed']}`: "
        f"{result['minutes']:g} simulated minutes at 48 kHz, blocks of 10 ms, sounds of 100 ms. "
        f"Injected: {told['stalls']} stalls of 0 to {told['longest_stall_ms']:.0f} ms, "
        f"{told['bad_bursts']} bursts of NaN, infinity or 1e30 ({told['bad_samples']} samples), "
        f"{told['too_loud']} sounds that are 18 dB too loud. A generator that was stalled skips "
        "what it missed, as live windows do, so short stalls add up to an underrun. Zero-fill: a "
        "FIFO that plays zeros when it is empty, the usual policy.",
        "",
        "| | wanted | hearback | zero-fill |",
        "|---|---|---|---|",
        row("samples out", expected["samples"], ours["samples"], theirs["samples"]),
        row(
            "samples in the log of what was played",
            expected["samples"],
            ours["samples_in_log"],
            "-",
        ),
        row("underruns counted", expected["underruns"], ours["underruns"], "-"),
        row("blocks cut short by zeros", 0, 0, theirs["short_blocks"]),
        row("invalid samples replaced", expected["bad"], ours["bad_samples_replaced"], 0),
        row("NaN or infinity out", 0, ours["bad_samples_out"], theirs["bad_samples_out"]),
        row("peak, dBFS", CEILING_DBFS, ours["peak_dbfs"], theirs["peak_dbfs"]),
        row(
            "samples above the ceiling",
            0,
            ours["samples_above_ceiling"],
            theirs["samples_above_ceiling"],
        ),
        row("steps above -50 dBFS", 0, ours["clicks"], theirs["clicks"]),
        row("largest step, dBFS", "< -50", ours["largest_step_dbfs"], theirs["largest_step_dbfs"]),
        row("peak from the block after an abort on", 0.0, ours["peak_after_abort_block"], "-"),
        row("time for a 10-ms block, us: p50", "-", ours["block_wall_us"]["p50"], "-"),
        row("... p99", "-", ours["block_wall_us"]["p99"], "-"),
        row("... longest (others run here too)", "-", ours["block_wall_us"]["max"], "-"),
        row("... longest, CPU time", "< 10000", ours["block_cpu_us"]["max"], "-"),
        row("share of a core, %", "-", ours["cpu_percent_of_a_core"], "-"),
        row(
            "memory grown in the second half, KiB", 0, ours["memory_grown_in_second_half_kib"], "-"
        ),
        "",
        "A step is the largest second difference of the output; the tone's own is below -90 dBFS.",
        "",
        f"Machine: {where['cpu']}, {where['cores']} cores, load {where['load_average_1_min']}, "
        f"{where['system']}, Python {where['python']}, NumPy {where['numpy']}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run, print the table, and write it beside the other results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    result = {"machine": machine()} | simulate(chosen.minutes, chosen.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "playback.json").write_text(json.dumps(result, indent=1) + "\n")
    (chosen.out / "playback.md").write_text(as_table(result))
    print(as_table(result))


if __name__ == "__main__":
    main()
