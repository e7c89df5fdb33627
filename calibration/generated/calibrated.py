"""What a calibration does for a chain that ends in a generator: its library and its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.targets import GeneratorTokens
from calibration.bundle_library import bundle_library
from calibration.config import CalibrationSettings, GeneratorChoice
from calibration.data.dataset import Dataset, Stimulus
from calibration.data.samples import Samples
from calibration.embedders.base import unit_rows
from calibration.generated.chain import FittedGenerator
from calibration.generated.conditions import (
    ClipConditions,
    as_vectors,
    clip_conditions,
    dealt_tokens,
)
from calibration.generated.drawn_clips import clip_notes, drawn_clips
from calibration.generated.end_checks import check_chain, check_target
from calibration.generated.entering import EnteringTokens
from calibration.generated.folder import generator_folder
from calibration.generated.full_tokens import check_entering, token_source
from calibration.generated.judge import make_judge
from calibration.generated.scores import GeneratedScores
from calibration.generated.scoring import HeldOut, SoundScoring, score_generated
from calibration.generated.start_library import StartLibrary, start_library
from calibration.generated.token_fits import (
    FittedTokens,
    HeardTokens,
    TokenFits,
    acoustic_file,
)
from calibration.generated.tuned import Tuned
from calibration.generated.tuned_tokens import TunedTokens
from calibration.outer import Decoded, Fit
from calibration.plan import Plan
from calibration.stimulus_sound import stimulus_sound
from calibration.targets import EmbeddingTargets, TargetSource
from export.chains import EmbeddingSpec, TokenSpec
from export.generator import open_generator
from models.errors import SettingError
from models.stretch import CONDITION_DIM
from stream.generator_renderer import GeneratorRenderer
from stream.render import Renderer

__all__ = ["GeneratorEnd"]

_RATE_HZ = 16_000


class GeneratorEnd:
    """The generator of a calibration, opened, with what judges its sound.

    Parameters
    ----------
    choice : GeneratorChoice
        Its `folder` is given.
    target : str
        What is decoded.

    Raises
    ------
    FileError
        If there is no such generator.
    SettingError
        If generator, target and judge do not go together.
    """

    def __init__(self, choice: GeneratorChoice, target: str) -> None:
        assert choice.folder is not None
        self.choice = choice
        self.folder = generator_folder(choice.folder)
        self.generator = open_generator(self.folder)
        spec = self.generator.spec
        if choice.steps not in (None, spec.steps):
            raise SettingError(
                f"The generator {self.folder.name!r} was exported with {spec.steps} steps, and "
                f"generator.steps is {choice.steps}. Export it again: hearback export --steps "
                f"{choice.steps}"
            )
        check_chain(choice.chain, spec, self.folder.name)
        check_target(target, spec.family, self.folder)
        self.tuned = Tuned(choice, self.generator.card)
        self._startable = spec.startable and (self.folder / "codec_encoder.onnx").is_file()
        if choice.start == "retrieval" and not self._startable:
            raise SettingError(
                f"The generator {self.folder.name!r} cannot begin from a retrieved sound. Set "
                "generator.start to 'none'."
            )
        self.judge = make_judge(choice, target)

    def library(
        self,
        dataset: Dataset,
        plan: Plan,
        fit: Fit,
        targets: TargetSource,
        settings: CalibrationSettings,
    ) -> StartLibrary | None:
        """Return the sounds to begin from; None where this generator cannot."""
        if not self._startable:
            return None
        sounds, centred = bundle_library(dataset, plan, fit, targets, settings)
        return start_library(self.folder, sounds, unit_rows(centred + fit.centre))

    def fitted(
        self,
        targets: TargetSource,
        library: StartLibrary | None,
        acoustic: AcousticDecoder | None = None,
    ) -> FittedGenerator:
        """Return what the bundle gets.

        Parameters
        ----------
        targets : TargetSource
        library : StartLibrary, optional
            It goes into the bundle if the settings want starts from retrieved sounds.
        acoustic : AcousticDecoder, optional
            Coarse-to-fine.

        Raises
        ------
        SettingError
            If the decoded embedding is not one that a generator takes.
        """
        if not isinstance(targets, EmbeddingTargets) or targets.dim != CONDITION_DIM:
            raise SettingError(
                f"A generator takes embeddings of {CONDITION_DIM} dimensions, got {targets.dim}. "
                "Leave target.kind out."
            )
        choice = self.choice
        begins = choice.start == "retrieval"
        return FittedGenerator(
            self.folder,
            EmbeddingSpec(targets.embedder.name, targets.dim),
            seed=choice.seed,
            library=library if begins else None,
            strength=choice.strength,
            tokens=None if acoustic is None else TokenSpec(acoustic.steps),
            acoustic=None if acoustic is None else acoustic_file(acoustic),
        )

    def token_fits(
        self,
        stimuli: Mapping[str, Stimulus],
        targets: TargetSource,
        plan: Plan,
        *,
        hop_s: float,
        rois: Mapping[str, NDArray[np.intp]],
    ) -> TokenFits | None:
        """Return what fits acoustic decoders beside the semantic ones; None for a semantic chain.

        Raises
        ------
        SettingError
            If the generator takes no tokens, or the split divides recordings at random.
        """
        if self.choice.chain == "semantic":
            return None
        if plan.evaluation.family in ("segment", "random-chunk"):
            raise SettingError(
                "Acoustic tokens are not decoded under a leaky split. Hold out runs, sessions or "
                "clips (evaluation.family)."
            )
        full = self.generator.spec.family != "small"
        if full:
            check_entering(self.choice, self.generator.card)
        if self.tuned.record is not None:
            true = self._heard(stimuli, hop_s) if full and self.choice.tokens else None
            return TunedTokens(self.tuned, targets, plan, hop_s=hop_s, true=true)
        return FittedTokens(
            self._heard(stimuli, hop_s),
            targets,
            plan,
            settings=replace(self.choice.acoustic_options, method=self.choice.acoustic),
            rois=rois,
        )

    def _heard(self, stimuli: Mapping[str, Stimulus], hop_s: float) -> HeardTokens:
        """Return what makes the tokens of windows, as this generator takes them."""
        choice, family = self.choice, self.generator.spec.family
        if family == "small":
            if choice.tokens is not None:
                raise SettingError(
                    f"The generator {self.folder.name!r} makes its own acoustic tokens. Leave "
                    "--tokens (generator.tokens) out."
                )
            return HeardTokens(GeneratorTokens(self.folder), stimuli, hop_s=hop_s)
        if choice.tokens is None:
            raise SettingError(
                f"The generator {self.folder.name!r} is a checkpoint of {family}, which brings "
                "nothing that makes acoustic tokens of sounds: say --tokens audiomae:FILE "
                "(AudioMAE's weights; generator.tokens in a file of settings)."
            )
        return HeardTokens(
            token_source(choice.tokens, last_blocks=choice.last_blocks),
            stimuli,
            hop_s=hop_s,
            entering=EnteringTokens(family, pooling=choice.pooling, fill=choice.fill),
        )

    def renderer(self, seed: int, library: StartLibrary | None, strength: float) -> Renderer:
        """Return a renderer at its beginning, as a live session has it."""
        return GeneratorRenderer(self.generator, seed=seed, start=library, strength=strength)

    def score(
        self,
        decoded: Decoded,
        shuffled: Sequence[NDArray[np.float64]],
        *,
        dataset: Dataset,
        plan: Plan,
        library: StartLibrary | None,
        hop_s: float,
        held: Sequence[frozenset[str]] = (),
        tokens: NDArray[np.float32] | None = None,
        true_tokens: NDArray[np.float32] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> GeneratedScores | None:
        """Score the generated sound of what was held out; None where the generator learnt from it.

        Parameters
        ----------
        decoded : Decoded
            Centred embeddings of held-out windows.
        shuffled : sequence of arrays of shape (n, d)
            The same windows by decoders of shuffled brains.
        dataset : Dataset
            With the sounds of the clips.
        plan : Plan
        library : StartLibrary, optional
            To begin from; without it only direct sound is made.
        hop_s : float
            How long one window's condition sounds.
        held : sequence of sets of str
            Clips that were held out together: none of them begins from the sound of another.
        tokens : array of shape (n, 8 steps, 768), optional
            Decoded acoustic tokens of the windows.
        true_tokens : array of the same shape, optional
            What they stand for, where the generator hears nothing else.
        progress : callable, optional

        Raises
        ------
        SettingError
            If there are fewer than 3 clips.
        FileError
            If the sound of a clip cannot be read.
        """
        if self.tuned.unscored:
            return None
        choice, samples = self.choice, decoded.samples
        options = SoundScoring(
            strengths=tuple(dict.fromkeys((choice.strength, *choice.scored_strengths))),
            most_clips=choice.scored_clips,
            most_s=choice.scored_s,
            n_shuffled=choice.n_shuffled,
            n_permutations=plan.evaluation.n_permutations,
            seed=plan.evaluation.seed,
        )
        clips = drawn_clips(samples, options)
        rng = np.random.default_rng([options.seed, 513])
        whole = samples.y + decoded.centre
        without = {} if plan.closed else {clip: group for group in held for clip in group}
        return score_generated(
            HeldOut(
                decoded=clip_conditions(
                    as_vectors(decoded.raw, decoded.centre),
                    samples,
                    clips,
                    each_s=hop_s,
                    tokens=tokens,
                ),
                shuffled=tuple(
                    clip_conditions(
                        as_vectors(raw, decoded.centre),
                        samples,
                        clips,
                        each_s=hop_s,
                        tokens=dealt_tokens(tokens, samples, rng),
                    )
                    for raw in shuffled[: options.n_shuffled]
                ),
                heard=tuple(
                    stimulus_sound(dataset.stimuli[clip], sample_rate_hz=_RATE_HZ) for clip in clips
                ),
                meant=np.array([whole[samples.clip == clip].mean(axis=0) for clip in clips]),
                each_s=hop_s,
                without=without,
                true=self._true(whole, samples, clips, hop_s, true_tokens),
            ),
            chain=choice.chain,
            generator=self.folder.name,
            renderer=self.renderer,
            judge=self.judge,
            library=library,
            options=options,
            progress=progress,
            notes=clip_notes(clips, samples, plan),
        )

    def _true(
        self,
        whole: NDArray[np.float64],
        samples: Samples,
        clips: Sequence[str],
        hop_s: float,
        tokens: NDArray[np.float32] | None,
    ) -> tuple[ClipConditions, ...] | None:
        """Return true conditions; None where the true embedding is one, empty where there is none.

        A checkpoint that hears tokens alone needs those of the sounds, which a bundle cannot make.
        """
        if "vector" in self.generator.spec.conditions:
            return None
        if tokens is None:
            return ()
        return clip_conditions(unit_rows(whole), samples, clips, each_s=hop_s, tokens=tokens)
