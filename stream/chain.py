"""A bundle opened for use: its decoders on a device, its sounds, and what renders them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from export.bundle import Bundle
from export.chains import CoarseToFineChain, DirectChain, GeneratedChain, RetrievalChain, library_of
from export.runtime import Device, Runner, open_decoder
from models.errors import BundleError, SettingError
from stream.messages import Condition, FeatureWindow
from stream.render import (
    GeneratorRenderer,
    LibraryRenderer,
    MelRenderer,
    PiecewiseRenderer,
    Renderer,
)

if TYPE_CHECKING:
    from pathlib import Path

    from export.generator import OnnxGenerator
    from export.library import Library

__all__ = ["Chain", "open_chain"]


class Chain:
    """Decodes windows as the bundle says; made by `open_chain`.

    Parameters
    ----------
    runner : Runner
        Features to mel frames or an embedding.
    renderer : Renderer
    library : Library, optional
    acoustic : Runner, optional
        Features and embedding to acoustic tokens.
    generator : OnnxGenerator, optional
        What the renderer works with.

    Attributes
    ----------
    library : Library or None
        The sounds of a retrieval chain, or those that a generator begins from.
    renderer : Renderer
        Turns conditions into sound.
    device : str
        What the decoder really runs on.
    """

    def __init__(
        self,
        runner: Runner,
        renderer: Renderer,
        library: Library | None,
        *,
        acoustic: Runner | None = None,
        generator: OnnxGenerator | None = None,
    ) -> None:
        self._runner, self._acoustic, self._generator = runner, acoustic, generator
        self.library = library
        self.renderer = renderer
        self.device = runner.device

    @property
    def providers(self) -> tuple[str, ...]:
        """ONNX Runtime's words for what the decoder runs on."""
        return self._runner.providers

    @property
    def providers_of(self) -> dict[str, tuple[str, ...]]:
        """The same for each part of the chain."""
        parts = {
            "decoder": self._runner,
            "acoustic": self._acoustic,
            "generator": self._generator,
        }
        return {name: part.providers for name, part in parts.items() if part is not None}

    def decode(self, window: FeatureWindow) -> Condition:
        """Decode one window; the same window gives the same result, bit for bit, on one device."""
        features = window.values[np.newaxis]
        outputs = self._runner.run({"features": features})
        values = next(iter(outputs.values()))[0]  # mel (n_frames, n_mels), or embedding (dim,)
        if not np.isfinite(values).all():
            raise ArithmeticError("the decoder gave values that are not finite")
        values.setflags(write=False)
        tokens = None
        if self._acoustic is not None:
            given = {"features": features, "embedding": values[np.newaxis]}
            tokens = self._acoustic.run(given)["tokens"][0]  # (8 steps, 768)
            if not np.isfinite(tokens).all():
                raise ArithmeticError("the acoustic decoder gave tokens that are not finite")
            tokens.setflags(write=False)
        if self.library is None:
            return Condition(values, window, tokens=tokens)
        items, cosines = self.library.nearest(values)
        return Condition(values, window, int(items[0]), float(cosines[0]), tokens)

    def summary(self) -> dict[str, Any]:
        """Return what ran on what, and what a generator has made so far, for `Summary`."""
        about: dict[str, Any] = {
            "device": self.device,
            "providers": {part: list(names) for part, names in self.providers_of.items()},
        }
        renderer = self.renderer
        if not isinstance(renderer, GeneratorRenderer):
            return about
        return about | {
            "stretch_ms": renderer.stretch_ms.summary(),
            "stretches": renderer.stretch_ms.n,
            "stretches_invalid": renderer.n_invalid,
        }

    def warm_up(self, n_features: int, *, n_runs: int = 3) -> None:
        """Decode and render nothing in particular.

        The first calls pay for memory and kernels; the participant should not.
        """
        nothing = np.zeros(n_features, np.float32)
        window = FeatureWindow(nothing, -1, 0, 1, 0.0, 0.0)
        for _ in range(n_runs):
            values = self.decode(window).values
        if isinstance(self.renderer, PiecewiseRenderer):
            self.renderer.warm_up()
            return
        item = 0 if self.library is not None else -1
        n = max(1, self.renderer.sample_rate_hz // 10)
        self.renderer.render(Condition(values, window, item), n)
        self.renderer.reset()


def open_chain(
    bundle: Bundle,
    *,
    device: Device = "cpu",
    threads: int = 1,
    cache_dir: Path | None = None,
    seed: int | None = None,
    strength: float | None = None,
) -> Chain:
    """Open the decoder of a bundle on a device, and its renderer.

    Parameters
    ----------
    bundle : Bundle
        Verified by `load_bundle`.
    device : {"cpu", "cuda", "tensorrt"}
        What to try; falls back to the CPU with one warning.
    threads : int
        CPU threads of each network.
    cache_dir : Path, optional
        Where TensorRT keeps its engines; beside the bundle if not given and possible.
    seed : int, optional
        Of a generator's noise; the bundle's own if not given.
    strength : float, optional
        How much of the retrieved sound a generator makes anew, 0 to 1; the bundle's own if not
        given.

    Raises
    ------
    BundleError
        If the files do not fit the manifest.
    DeviceError
        If there is no runtime.
    SettingError
        If seed or strength are given and the chain has no use for them.
    """
    chain = bundle.manifest.chain
    _check_wishes(bundle, seed, strength)
    if cache_dir is None and device == "tensorrt" and os.access(bundle.path.parent, os.W_OK):
        cache_dir = bundle.path.with_name(f"{bundle.path.name}.engines")
    runner = open_decoder(bundle, device=device, threads=threads, cache_dir=cache_dir)
    library = _library(bundle)
    acoustic = generator = None
    if isinstance(chain, DirectChain):
        renderer: Renderer = _mel_renderer(chain)
    elif isinstance(chain, RetrievalChain):
        assert library is not None
        renderer = LibraryRenderer(library, crossfade_s=chain.crossfade_s)
    else:
        from export.generator import open_generator

        generator = open_generator(bundle.path, device=device, threads=threads, cache_dir=cache_dir)
        renderer = _generator_renderer(bundle, chain, generator, library, seed, strength)
        if isinstance(chain, CoarseToFineChain):
            from export.acoustic import open_acoustic

            acoustic = open_acoustic(bundle, device=device, threads=threads, cache_dir=cache_dir)
    _check_rate(bundle, renderer)
    return Chain(runner, renderer, library, acoustic=acoustic, generator=generator)


def _check_wishes(bundle: Bundle, seed: int | None, strength: float | None) -> None:
    chain = bundle.manifest.chain
    generated = isinstance(chain, GeneratedChain)
    if seed is not None and not generated:
        raise SettingError(
            f"Bundle {bundle.path.name!r} has a {chain.kind} chain, in which nothing is drawn by "
            "chance. Leave the seed out."
        )
    if strength is not None and (not generated or library_of(chain) is None):
        raise SettingError(
            f"Bundle {bundle.path.name!r} has no library that a generator begins from. Leave the "
            "strength out, or calibrate with a retrieved start."
        )


def _library(bundle: Bundle) -> Library | None:
    if library_of(bundle.manifest.chain) is None:
        return None
    from export.library import Library

    return Library(bundle)


def _mel_renderer(chain: DirectChain) -> MelRenderer:
    from models.inversion import PhaseRecovery

    vocoder = chain.vocoder
    recovery = PhaseRecovery(
        chain.mel, look_ahead=vocoder.look_ahead, iterations=vocoder.iterations
    )
    return MelRenderer(chain.mel, recovery)


def _generator_renderer(
    bundle: Bundle,
    chain: GeneratedChain,
    generator: OnnxGenerator,
    library: Library | None,
    seed: int | None,
    strength: float | None,
) -> GeneratorRenderer:
    seed = chain.seed if seed is None else seed
    if chain.start is None or library is None:
        return GeneratorRenderer(generator, seed=seed)
    from export.library_latents import LibraryLatents

    latents = LibraryLatents(
        bundle,
        chain.start.latents,
        items=library.items,
        latent=generator.spec.latent,
        samples_per_frame=generator.spec.samples_per_frame,
    )
    return GeneratorRenderer(
        generator,
        seed=seed,
        start=latents,
        strength=chain.start.strength if strength is None else strength,
    )


def _check_rate(bundle: Bundle, renderer: Renderer) -> None:
    said = bundle.manifest.sound.sample_rate_hz
    if renderer.sample_rate_hz != said:
        raise BundleError(
            f"Bundle {bundle.path.name!r} says that its sound has {said} Hz, but its chain makes "
            f"{renderer.sample_rate_hz} Hz. Export it again."
        )
