"""A bundle opened for use: its decoder on a device, its sounds, and what renders them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.bundle import Bundle
from export.manifest import DirectChain
from export.runtime import Device, Runner, open_decoder
from models.errors import BundleError
from stream.messages import Condition, FeatureWindow
from stream.render import LibraryRenderer, MelRenderer, Renderer

if TYPE_CHECKING:
    from pathlib import Path

    from export.library import Library

__all__ = ["Chain", "open_chain"]


class Chain:
    """Decodes windows as the bundle says; made by `open_chain`.

    Attributes
    ----------
    library : Library or None
        The sounds of a retrieval chain.
    renderer : Renderer
        Turns conditions into sound.
    device : str
        What the decoder really runs on.
    """

    def __init__(self, runner: Runner, renderer: Renderer, library: Library | None) -> None:
        self._runner = runner
        self.library = library
        self.renderer = renderer
        self.device = runner.device

    @property
    def providers(self) -> tuple[str, ...]:
        """ONNX Runtime's words for what the decoder runs on."""
        return self._runner.providers

    def decode(self, window: FeatureWindow) -> Condition:
        """Decode one window; the same window gives the same result, bit for bit, on one device."""
        outputs = self._runner.run({"features": window.values[np.newaxis]})
        values = next(iter(outputs.values()))[0]  # mel (n_frames, n_mels), or embedding (dim,)
        if not np.isfinite(values).all():
            raise ArithmeticError("the decoder gave values that are not finite")
        values.setflags(write=False)
        if self.library is None:
            return Condition(values, window)
        items, cosines = self.library.nearest(values)
        return Condition(values, window, int(items[0]), float(cosines[0]))

    def warm_up(self, n_features: int, *, n_runs: int = 3) -> None:
        """Decode and render nothing in particular.

        The first calls pay for memory and kernels; the participant should not.
        """
        nothing = np.zeros(n_features, np.float32)
        window = FeatureWindow(nothing, -1, 0, 1, 0.0, 0.0)
        for _ in range(n_runs):
            values = self.decode(window).values
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
) -> Chain:
    """Open the decoder of a bundle on a device, and its renderer.

    Parameters
    ----------
    bundle : Bundle
        Verified by `load_bundle`.
    device : {"cpu", "cuda", "tensorrt"}
        What to try; falls back to the CPU with one warning.
    threads : int
        CPU threads of the decoder.
    cache_dir : Path, optional
        Where TensorRT keeps its engines.

    Raises
    ------
    BundleError
        If the files do not fit the manifest.
    DeviceError
        If there is no runtime.
    """
    runner = open_decoder(bundle, device=device, threads=threads, cache_dir=cache_dir)
    chain = bundle.manifest.chain
    if isinstance(chain, DirectChain):
        renderer: Renderer = _mel_renderer(chain)
        _check_rate(bundle, renderer)
        return Chain(runner, renderer, None)
    from export.library import Library

    library = Library(bundle)
    renderer = LibraryRenderer(library, crossfade_s=chain.crossfade_s)
    _check_rate(bundle, renderer)
    return Chain(runner, renderer, library)


def _mel_renderer(chain: DirectChain) -> MelRenderer:
    from models.inversion import PhaseRecovery

    vocoder = chain.vocoder
    recovery = PhaseRecovery(
        chain.mel, look_ahead=vocoder.look_ahead, iterations=vocoder.iterations
    )
    return MelRenderer(chain.mel, recovery)


def _check_rate(bundle: Bundle, renderer: Renderer) -> None:
    said = bundle.manifest.sound.sample_rate_hz
    if renderer.sample_rate_hz != said:
        raise BundleError(
            f"Bundle {bundle.path.name!r} says that its sound has {said} Hz, but its chain makes "
            f"{renderer.sample_rate_hz} Hz. Export it again."
        )
