"""What a fine-tuning came to: the acoustic decoder as it left, and scores of what was held out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.ridge import fit_ridge
from calibration.acoustic.scores import score_tokens, shuffled_rows
from calibration.acoustic.targets import rendered, stretch_tokens
from calibration.finetune.prepare import Prepared
from calibration.generated.entering import EnteringTokens, entered
from calibration.generated.tuned_record import ACOUSTIC_FILE, TunedRecord
from calibration.outer import unit
from models.stretch import TOKENS_PER_STEP

if TYPE_CHECKING:
    from calibration.acoustic.network import AcousticTransformer
    from calibration.acoustic.targets import TokenSource
    from calibration.data.dataset import Dataset
    from calibration.finetune.job import BrainJob
    from calibration.finetune.stage import BrainStage

__all__ = ["BrainReport", "finish", "network_of", "tuned_record"]


@dataclass(frozen=True, slots=True)
class BrainReport:
    """What a fine-tuning came to."""

    participant: str
    lag_s: float
    n_windows: int
    n_clips: int
    steps: int  # of tokens for a window
    acoustic: dict[str, float]  # on inner groups
    held_out: dict[str, dict[str, Any]]  # of the data set's own test runs; empty without any
    tuned: dict[str, float]
    parity: float | None  # of acoustic.onnx; None where no tokens are decoded
    licence: str = ""  # of the weights that were tuned

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def network_of(decoder: AcousticDecoder) -> AcousticTransformer | None:
    """Return the network of a decoder; None for the closed form, which is not trained along."""
    network: AcousticTransformer | None = getattr(decoder.engine, "network", None)
    return network


Left = TypeVar("Left", AcousticDecoder, "AcousticDecoder | None")


def finish(
    job: BrainJob,
    prepared: Prepared,
    decoder: Left,
    stage: BrainStage,
    *,
    tokens: TokenSource,
    scores: dict[str, float],
    entering: EnteringTokens | None = None,
) -> tuple[BrainReport, Left]:
    """Export the acoustic decoder as it is after the fine-tuning, and score it on test runs.

    Parameters
    ----------
    job : BrainJob
    prepared : Prepared
    decoder : AcousticDecoder or None
        As it went into the fine-tuning; None where no tokens are decoded.
    stage : BrainStage
        The fine-tuning, done.
    tokens : TokenSource
    scores : dict of str to float
        Of the fine-tuning.
    entering : EnteringTokens, optional
        How tokens enter the checkpoint; the decoder leaves with that behind it.

    Returns
    -------
    report : BrainReport
    decoder : AcousticDecoder or None
        As it came out.
    """
    out, dataset = job.out, job.dataset
    network = stage.averages.get("acoustic")
    parity = None
    if network is not None and decoder is not None:
        from calibration.acoustic.transformer import TransformerEngine, save_acoustic

        tuned: Any = network.cpu().eval()
        decoder = replace(decoder, engine=TransformerEngine(tuned))
        save_acoustic(tuned, decoder.settings, out)
    left = decoder
    if decoder is not None:
        fitted_on = prepared.windows.tokens
        left = decoder if entering is None else entered(decoder, entering, fitted_on)
        parity = left.export_onnx(out / ACOUSTIC_FILE)
    report = BrainReport(
        participant=dataset.participants[0],
        lag_s=prepared.fit.lag_s,
        n_windows=len(prepared.windows.samples),
        n_clips=len(np.unique(prepared.windows.samples.clip)),
        steps=prepared.windows.tokens.shape[1] // TOKENS_PER_STEP,
        acoustic={} if decoder is None else decoder.scores,
        held_out={} if decoder is None else _held_out(prepared, decoder, dataset, tokens),
        tuned=scores,
        parity=parity,
    )
    return report, left


def tuned_record(
    job: BrainJob, prepared: Prepared, decoder: AcousticDecoder, *, weights: str
) -> TunedRecord:
    """Return what a bundle must fit that takes generator and acoustic decoder.

    Parameters
    ----------
    job : BrainJob
    prepared : Prepared
    decoder : AcousticDecoder
    weights : str
        Digest of the tuned denoiser.
    """
    plan: dict[str, Any] = json.loads(json.dumps(prepared.plan.to_json()))
    del plan["target"]  # it may name a folder; the embeddings themselves are compared
    return TunedRecord(
        participant=job.dataset.participants[0],
        weights=weights,
        trained_on=prepared.trained_on,
        plan=plan,
        hop_s=prepared.hop_s,
        lag_s=prepared.fit.lag_s,
        method=decoder.settings.method,
        steps=decoder.steps,
    )


def _held_out(
    prepared: Prepared, decoder: AcousticDecoder, dataset: Dataset, tokens: TokenSource
) -> dict[str, dict[str, Any]]:
    """Score the decoder on the data set's own test runs, beside its floors."""
    samples = prepared.held_out
    if samples is None:
        return {}
    x = np.asarray(samples.mean_x(), np.float32)
    said = np.asarray(prepared.fit.decoder.predict(x), np.float64) + prepared.fit.centre
    s = unit(said).astype(np.float32)
    spans = rendered(samples, prepared.hop_s)
    names = samples.clip.tolist()
    true = stretch_tokens(tokens, dataset.stimuli, names, *spans, steps=decoder.steps)
    rows = shuffled_rows(samples.clip, np.random.default_rng(0))
    made = decoder.predict(x, s)
    predicted = {"decoder": made, "shuffled brain": made[rows]}
    if decoder.settings.method != "ridge":
        windows = prepared.windows
        ridge, _ = fit_ridge(
            windows.features,
            windows.decoded,
            windows.tokens,
            windows.groups,
            settings=decoder.settings,
        )
        predicted["closed form"] = ridge.predict(x, s)
    scores = score_tokens(predicted, true, samples.clip, mean=decoder.mean)
    return {name: one.to_json() for name, one in scores.items()}
