"""Score of a demo whose sound a generator makes: re-embedded by the judge, beside its controls.

The sound that was played is scored as it was heard. The same decoded conditions are rendered once
more from retrieved sounds on, and those of the same brain while it heard other sounds in both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.demo_score import DemoScore, Segments, score_sound, similarity_of
from calibration.embedders.base import Embedder
from calibration.embedders.generator import GeneratorEmbedder
from calibration.generated.folder import DEFAULT_GENERATOR
from calibration.listener import ListenerSettings, simulate
from calibration.runs import Run, run_windows
from calibration.scores import correlations, identification
from export.bundle import Bundle
from export.chains import library_of
from models.standardise import standardise_batch
from stream.chain import Chain, open_chain
from stream.messages import Condition, FeatureWindow
from stream.monitor import Observer

__all__ = ["DecodedConditions", "GeneratedDemo", "render_run", "score_generated_demo"]

_STRENGTH = 0.7  # of the start from a retrieved sound
_N_FLOORS = 4


class DecodedConditions(Observer):
    """Keeps what the windows were decoded to."""

    def __init__(self) -> None:
        self.conditions: list[Condition] = []

    def on_condition(self, condition: Condition) -> None:
        """Note a condition."""
        self.conditions.append(condition)


@dataclass(frozen=True, slots=True)
class GeneratedDemo:
    """The scores of a demo with generated sound."""

    direct: DemoScore  # of the sound as it was played
    started: DemoScore | None  # begun from retrieved sounds; None: the bundle has no library
    strength: float  # of that start
    embedding: float | None  # identification of the decoded embedding, before any sound
    judge: str

    def to_json(self) -> dict[str, Any]:
        """Return the entries that the summary gets beyond those of any demo."""
        started = self.started
        return {
            "judge": self.judge,
            "identification_embedding": _rounded(self.embedding),
            "identification_started": started and _rounded(started.identification),
            "permutation_p_started": started and round(started.permutation_p, 5),
            "floor_shuffled_started": started and _rounded(started.floor_shuffled),
            "started_strength": started and self.strength,
        }

    @property
    def told(self) -> str:
        """What a person should read beyond what any demo says."""
        lines = [
            "Scored is the generated sound itself, analysed again by an encoder that the generator "
            "was not trained with."
        ]
        if self.started is not None:
            s = self.started
            lines.append(
                f"The same decoded conditions, begun from the nearest library sound (strength "
                f"{self.strength:g}): {100 * s.identification:.0f} % (p = {s.permutation_p:.4f}), "
                f"from the brain that heard other sounds {100 * s.floor_shuffled:.0f} %."
            )
        if self.embedding is not None:
            lines.append(f"The decoded embedding, before any sound: {100 * self.embedding:.0f} %.")
        return "\n".join(lines)


def score_generated_demo(
    bundle: Bundle,
    chain: Chain,
    *,
    heard: NDArray[np.float32],
    played: NDArray[np.float32],
    segments: Segments,
    conditions: Sequence[Condition],
    listener: ListenerSettings,
    on_message: Callable[[str], None] = lambda _text: None,
) -> GeneratedDemo | None:
    """Score what was played, and what the same brain's conditions give in another way.

    Parameters
    ----------
    bundle : Bundle
    chain : Chain
        That was played with.
    heard, played : arrays of shape (n,), float32
        On the same time, 16 kHz.
    segments : list of (int, int)
        What is told apart; None is returned for fewer than 3.
    conditions : sequence of Condition
        That were decoded live.
    listener : ListenerSettings
        Whose brain it was.
    on_message : callable
    """
    if len(segments) < 3:
        return None
    place = _networks(bundle.path)
    judge = GeneratorEmbedder(str(place), network="judge")
    first = conditions[0].window.start  # before it nothing was heard
    runs = [simulate(replace(listener, seed=listener.seed + 7_000 + k)) for k in range(_N_FLOORS)]
    others = [
        [c for c in decode_windows(bundle, chain, run) if c.window.start >= first] for run in runs
    ]

    def embed(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        return judge.embed(pcm, 16_000)

    truth = np.array([embed(heard[a:b]) for a, b in segments])

    def scored(pcm: NDArray[np.float32], way: Chain) -> DemoScore:
        floors = []
        for other in others:
            sound, _ = render_run(way, other, bundle, n_samples=len(heard))
            floors.append(similarity_of(sound, segments, truth, embed))
        score = score_sound(heard, pcm, segments, embed=embed, floors=floors)
        assert score is not None
        return score

    on_message("Analysing the generated sound again, and that of a brain that heard other sounds.")
    direct = scored(played, chain)
    started = None
    if library_of(bundle.manifest.chain) is not None:
        on_message("Rendering the same decoded conditions from retrieved sounds on.")
        again = open_chain(bundle, strength=_STRENGTH)
        sound, _ = render_run(again, conditions, bundle, n_samples=len(heard))
        started = scored(sound, again)
    return GeneratedDemo(
        direct,
        started,
        _STRENGTH,
        _embedding(bundle, conditions, heard, segments, place),
        judge.name,
    )


def decode_windows(bundle: Bundle, chain: Chain, run: Run) -> list[Condition]:
    """Return what a whole run is decoded to, window by window."""
    windows = run_windows(run, bundle.manifest.features)
    x = standardise_batch(bundle.manifest.standardise, windows.values, bundle.mean, bundle.std)
    stops = np.rint(windows.t_stop * run.sfreq_hz).astype(int).tolist()
    starts = np.rint(windows.t_start * run.sfreq_hz).astype(int).tolist()
    return [
        chain.decode(FeatureWindow(row, k, starts[k], stops[k], 0.0, 0.0))
        for k, row in enumerate(x)
    ]


def render_run(
    chain: Chain, conditions: Sequence[Condition], bundle: Bundle, *, n_samples: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the sound of decoded windows on the time of the stimulus.

    Parameters
    ----------
    chain : Chain
        Its renderer is begun anew.
    conditions : sequence of Condition
        Their windows count samples from the onset of the stimulus.
    bundle : Bundle
    n_samples : int
        Of the stimulus.

    Returns
    -------
    pcm : array of shape (n_samples,), float32
        Sample k renders sample k of the stimulus.
    known : array of shape (n_samples,), bool
    """
    manifest, renderer = bundle.manifest, chain.renderer
    rate, block_s = renderer.sample_rate_hz, manifest.sound.block_s
    behind_s = manifest.lag_s + block_s + renderer.delay_s
    pcm, known = np.zeros(n_samples, np.float32), np.zeros(n_samples, bool)
    at: int | None = None
    renderer.reset()
    for condition in conditions:
        wanted = round((condition.window.stop / manifest.input.sfreq_hz - behind_s) * rate)
        if at is not None and abs(wanted - at) > rate // 50:  # windows are missing
            renderer.reset()
            at = None
        first = wanted if at is None else at
        n = round(block_s * rate)
        sound = renderer.render(condition, n)
        low, high = max(first, 0), min(first + n, n_samples)
        if low < high:
            pcm[low:high] = sound[low - first : high - first]
            known[low:high] = True
        at = first + n
    return pcm, known


def _networks(bundle: Path) -> Path:
    """Return where judge and encoder are: in the bundle, else in the generator that ships."""
    return bundle if (bundle / "judge.onnx").is_file() else DEFAULT_GENERATOR


def _embedding(
    bundle: Bundle,
    conditions: Sequence[Condition],
    heard: NDArray[np.float32],
    segments: Segments,
    place: Path,
) -> float | None:
    """Return the identification of the decoded embeddings, mean over each segment."""
    encoder: Embedder = GeneratorEmbedder(str(place), network="encoder")
    manifest = bundle.manifest
    middle = np.array(
        [
            (c.window.stop / manifest.input.sfreq_hz - manifest.lag_s - manifest.sound.block_s / 2)
            * encoder.sample_rate_hz
            for c in conditions
        ]
    )
    inside = [(middle >= a) & (middle < b) for a, b in segments]
    if not all(mine.any() for mine in inside):
        return None
    vectors = np.array([condition.values for condition in conditions], np.float64)
    rows = np.array([vectors[mine].mean(axis=0) for mine in inside])
    truth = np.array([encoder.embed(heard[a:b], encoder.sample_rate_hz) for a, b in segments])
    return identification(correlations(rows, truth)).ties_half


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
