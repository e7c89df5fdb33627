"""What is measured: a generator on a device, conditions for it, and the graph up to its latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bench.graph_cut import cut_graph
from export.bundle import load_bundle
from export.generator import open_generator
from export.generator_files import CARD_FILE, GeneratorCard, read_array
from export.runtime import Device
from models.errors import BundleError, SettingError
from models.stretch import (
    CONDITION_DIM,
    FRAME_S,
    TOKEN_DIM,
    TOKEN_FRAMES,
    TOKENS_PER_STEP,
    Generator,
    GeneratorInput,
    GeneratorSpec,
    GeneratorState,
)
from models.stretch_inputs import stretch_arrays

__all__ = ["LatentPath", "Subject", "open_subject", "random_conditions", "stretch_frames"]

_LATENTS = "next.prefix"
_MANIFEST = "manifest.json"


class LatentPath:
    """The part of a stretch's graph that ends with the latents, as a model of its own.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Of the graph cut off at the latents.
    spec : GeneratorSpec
    silence : array of shape spec.latent
    constants : dict of str to array
        Inputs that never change.
    """

    def __init__(
        self,
        session: Any,
        spec: GeneratorSpec,
        silence: NDArray[np.float32],
        constants: dict[str, NDArray[np.float32]],
    ) -> None:
        self._session, self._spec, self._silence = session, spec, silence
        self._constants = constants
        self._wanted = {item.name for item in session.get_inputs()}

    def run(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> NDArray[np.float32]:
        """Return the latents that the state keeps after this stretch."""
        arrays = stretch_arrays(given, self._spec, n_frames=n_frames, silence=self._silence)
        arrays |= {f"state.{name}": value for name, value in state.items()}
        arrays |= {"noise": noise, **self._constants}
        taken = {name: value for name, value in arrays.items() if name in self._wanted}
        latents: NDArray[np.float32] = self._session.run([_LATENTS], taken)[0]
        return latents


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """An opened generator, and how to time it up to its latents."""

    generator: Generator
    name: str
    threads: int
    device: str  # what it runs on
    providers: tuple[str, ...]  # ONNX Runtime's own words for it
    latent_path: Callable[[int], LatentPath | None]  # by length; None where it cannot be had
    latent_note: str  # how the stamp is got, or why not

    @property
    def spec(self) -> GeneratorSpec:
        """What the generator is."""
        return self.generator.spec


def open_subject(folder: Path, *, device: Device = "cpu", threads: int = 1) -> Subject:
    """Open the generator of a bundle, or an exported one by itself; the device must be there.

    Parameters
    ----------
    folder : Path
    device : {"cpu", "cuda", "tensorrt"}
    threads : int

    Raises
    ------
    BundleError
        If there is no generator in it, or it is not what it says.
    DeviceError
        If the device cannot be had.
    """
    name = _card_name(folder)
    generator = open_generator(folder, device=device, threads=threads, strict=True, name=name)
    card, home = generator.card, folder.resolve().name
    has_latents = any(entry.name == "prefix" for entry in card.state)
    if device != "cpu" or not has_latents:
        why = (
            "not taken: on a GPU the whole stretch is replayed as one recorded graph"
            if device != "cpu"
            else "not taken: the state of this family does not hold its latents"
        )
        return Subject(
            generator, home, threads, generator.device, generator.providers, lambda _: None, why
        )
    opened: dict[int, LatentPath] = {}

    def latent_path(n_frames: int) -> LatentPath:
        if n_frames not in opened:
            opened[n_frames] = _open_latent_path(folder, card, n_frames, threads)
        return opened[n_frames]

    note = "a second run, of the same graph cut off at its latents, on the same inputs and noise"
    return Subject(
        generator, home, threads, generator.device, generator.providers, latent_path, note
    )


def _open_latent_path(folder: Path, card: GeneratorCard, n_frames: int, threads: int) -> LatentPath:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A model that is no file has to be told where its weights lie.
    place = str(folder.resolve())
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", place)
    model = cut_graph((folder / card.graph(n_frames).file).read_bytes(), _LATENTS)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    constants = {
        key: np.asarray(read_array(folder, card, file, ndim=3))
        for key, file in card.constants.items()
    }
    return LatentPath(session, card.spec, card.silent_latent, constants)


def _card_name(folder: Path) -> str:
    """Return the name of the generator's card in a bundle or a generator folder."""
    if not folder.is_dir():
        raise BundleError(
            f"No folder at {folder}. Give a bundle with a generator, or what hearback export wrote."
        )
    if not (folder / _MANIFEST).is_file():
        return CARD_FILE  # whose absence `open_generator` explains
    chain = load_bundle(folder).manifest.chain
    name = getattr(chain, "generator", None)
    if name is None:
        raise BundleError(
            f"Bundle {folder.name!r} is of kind {chain.kind!r}, which has no generator to measure. "
            "Give one of kind semantic or coarse-to-fine, or an exported generator."
        )
    return str(name)


def stretch_frames(spec: GeneratorSpec, stretch_s: float | None) -> int:
    """Return the length of a stretch in frames; the shortest one where none is asked for.

    Raises
    ------
    SettingError
        If the generator does not make such stretches.
    """
    if stretch_s is None:
        return spec.stretches[0]
    for n_frames in spec.stretches:
        if abs(n_frames * FRAME_S - stretch_s) < 1e-6:
            return n_frames
    lengths = ", ".join(f"{n * FRAME_S:g}" for n in spec.stretches)
    raise SettingError(
        f"The generator makes stretches of {lengths} s, not {stretch_s:g} s. Choose one of these."
    )


def random_conditions(
    spec: GeneratorSpec, n: int, *, rng: np.random.Generator
) -> list[GeneratorInput]:
    """Return conditions of no meaning with all parts that the generator takes.

    Parameters
    ----------
    spec : GeneratorSpec
    n : int
    rng : numpy.random.Generator
    """
    conditions = []
    longest = spec.stretches[-1] + spec.held
    for _ in range(n):
        vector = rng.standard_normal(CONDITION_DIM).astype(np.float32)
        tokens = None
        if "tokens" in spec.conditions:
            steps = {"audioldm2": 1, "audioldm2-speech": 64}.get(
                spec.family, -(-longest // TOKEN_FRAMES)
            )
            shape = (TOKENS_PER_STEP * steps, TOKEN_DIM)
            tokens = rng.standard_normal(shape).astype(np.float32)
        unit = vector / np.linalg.norm(vector) if "vector" in spec.conditions else None
        conditions.append(GeneratorInput(vector=unit, tokens=tokens))
    return conditions
