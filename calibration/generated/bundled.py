"""Score the sound that a bundle's generator makes of recordings, by the files of a session."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.onnx_engine import OnnxEngine
from calibration.config import GeneratorChoice
from calibration.generated.calibrated import GeneratorEnd
from calibration.generated.folder import DEFAULT_GENERATOR
from calibration.generated.judge import usual_judge
from calibration.generated.scores import GeneratedScores
from calibration.generated.start_library import StartLibrary
from calibration.outer import Decoded
from export.bundle import Bundle
from export.chains import CoarseToFineChain, GeneratedChain, SemanticChain
from export.library import Library, LibrarySound
from export.library_latents import LibraryLatents, frames_of_sound
from models.features import make_extractor

if TYPE_CHECKING:
    from calibration.bundle_reading import Heard

__all__ = ["bundled_choice", "bundled_library", "score_bundled"]

_log = logging.getLogger(__name__)

_PER_FRAME = 640


def score_bundled(
    bundle: Bundle,
    decoded: Decoded,
    heard: Heard,
    *,
    choice: GeneratorChoice,
    progress: Callable[[int, int], None] | None = None,
) -> GeneratedScores | None:
    """Score the generated sound of recordings; None where the bundle has no generator, or no judge.

    Parameters
    ----------
    bundle : Bundle
    decoded : Decoded
        Of the recordings, by the bundle.
    heard : Heard
    choice : GeneratorChoice
        Of its table the judge and how much is scored are used; the rest says the bundle.
    progress : callable, optional

    Raises
    ------
    SettingError
        If there are fewer than 3 clips.
    """
    chain = bundle.manifest.chain
    if not isinstance(chain, (SemanticChain, CoarseToFineChain)):
        return None
    taken = bundled_choice(bundle, chain, choice)
    if taken is None:
        return None
    end = GeneratorEnd(taken, heard.plan.target)
    if end.tuned.hold_back(heard.runs):
        _log.warning("%s", end.tuned.unscored)
        return None
    run = heard.runs[0]
    extractor = make_extractor(
        heard.plan.features, sfreq_hz=run.sfreq_hz, n_channels=run.signal.shape[1]
    )
    clips = frozenset(map(str, heard.samples.clip))
    return end.score(
        decoded,
        (),
        dataset=heard.dataset,
        plan=heard.plan,
        library=bundled_library(bundle, chain, end.generator.spec.latent),
        hop_s=extractor.hop_samples * run.tr_s,
        # Sounds of the library that these recordings are scored on say nothing when retrieved.
        held=(clips,),
        tokens=_tokens(bundle, decoded, heard),
        progress=progress,
    )


def bundled_choice(
    bundle: Bundle, chain: GeneratedChain, choice: GeneratorChoice
) -> GeneratorChoice | None:
    """Return the settings of a bundle's generator; None if nothing can judge its sound."""
    judge = choice.judge
    if judge is None and "judge.onnx" not in bundle.manifest.files:
        judge = usual_judge(bundle.path)
        if judge is None and (DEFAULT_GENERATOR / "judge.onnx").is_file():
            judge = f"generator-judge:{DEFAULT_GENERATOR}"
        if judge is None:
            return None
    return replace(
        choice,
        folder=bundle.path,
        chain=chain.kind,
        start="none" if chain.start is None else "retrieval",
        strength=(chain.start.strength if chain.start is not None else 0.0) or choice.strength,
        seed=chain.seed,
        steps=None,
        tuned=None,
        judge=judge,
    )


def bundled_library(
    bundle: Bundle, chain: GeneratedChain, latent: tuple[int, ...]
) -> StartLibrary | None:
    """Return the sounds that a bundle's generator can begin from, None if it has none."""
    if chain.start is None:
        return None
    library = Library(bundle)
    latents = LibraryLatents(
        bundle,
        chain.start.latents,
        items=library.items,
        latent=latent,
        samples_per_frame=_PER_FRAME,
    )
    return StartLibrary(
        tuple(LibrarySound(i.name, library.sound(k), i.label) for k, i in enumerate(library.items)),
        library.embeddings,
        tuple(
            latents.read(k, 0, frames_of_sound(item.n_samples, samples_per_frame=_PER_FRAME))
            for k, item in enumerate(library.items)
        ),
    )


def _tokens(bundle: Bundle, decoded: Decoded, heard: Heard) -> NDArray[np.float32] | None:
    """Return the acoustic tokens of the windows, by the bundle's decoder of them."""
    chain = bundle.manifest.chain
    if not isinstance(chain, CoarseToFineChain):
        return None
    from calibration.generated.conditions import as_vectors

    engine = OnnxEngine(bundle.file(chain.acoustic))
    return engine.predict(heard.samples.mean_x(), as_vectors(decoded.raw, decoded.centre))
