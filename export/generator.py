"""Runs an exported generator: one ONNX graph for each length of stretch, no torch.

The folder is checked before it is used: digests, names, shapes and types of every tensor, and the
sound of a fixed input against what it was at export. An engine that computes something else, which
happens on GPUs without any error, is refused here instead of being heard.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.bound_runner import BoundRunner, open_bound_runner
from export.generator_files import (
    CARD_FILE,
    GeneratorCard,
    GraphEntry,
    check_generator_files,
    read_array,
    read_generator_card,
)
from export.parity import relative_error
from export.runtime import Device, TensorInfo
from models.errors import BundleError, DeviceError
from models.stretch import (
    CONDITION_DIM,
    TOKEN_DIM,
    GeneratorInput,
    GeneratorSpec,
    GeneratorState,
)
from models.stretch_inputs import check_length, check_noise, check_state, stretch_arrays

__all__ = [
    "OnnxGenerator",
    "golden_input",
    "golden_noise",
    "open_generator",
    "read_generator_card",
]

# Largest relative error of the golden sound: the same graph on other processors; half precision
# and the reordered sums of a GPU.
_CLOSE = {"fp32": 1e-3, "fp16": 1e-1}
_CLOSE_GPU = 2e-2


class OnnxGenerator:
    """A `models.stretch.Generator` around exported graphs; `open_generator` makes it.

    States are passed in and out, so one generator serves several streams, one call at a time.

    Attributes
    ----------
    spec : GeneratorSpec
    card : GeneratorCard
        All of `generator.json`.
    device : {"cpu", "cuda", "tensorrt"}
        What it runs on.
    providers : tuple of str
        ONNX Runtime's own words for it.

    Parameters
    ----------
    card : GeneratorCard
    runners : dict of int to BoundRunner
        One for each length.
    first : dict of str to array
        The state before the first stretch.
    """

    def __init__(
        self, card: GeneratorCard, runners: dict[int, BoundRunner], first: GeneratorState
    ) -> None:
        self.card = card
        self._runners = runners
        self._first = first
        self._shapes = {name: value.shape for name, value in first.items()}
        some = runners[card.spec.stretches[0]]
        self.device: Device = some.device
        self.providers = some.providers

    @property
    def spec(self) -> GeneratorSpec:
        """What it is."""
        return self.card.spec

    def noise_shape(self, n_frames: int) -> tuple[int, ...]:
        """Return the shape of the noise of a stretch; unit variance is expected.

        Raises
        ------
        SettingError
            If `n_frames` is not one of `spec.stretches`.
        """
        check_length(n_frames, self.spec)
        return self.card.graph(n_frames).noise

    def initial_state(self) -> GeneratorState:
        """Return the state before the first stretch."""
        return {name: value.copy() for name, value in self._first.items()}

    def stretch(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> tuple[NDArray[np.float32], GeneratorState]:
        """Return the next sound and the state after it; see `models.stretch.Generator`.

        Raises
        ------
        SettingError
            If an argument has another shape than said, or the generator does not take it.
        DeviceError
            If the device fails.
        """
        arrays = stretch_arrays(
            given, self.spec, n_frames=n_frames, silence=self.card.silent_latent
        )
        arrays["noise"] = check_noise(noise, self.noise_shape(n_frames))
        check_state(state, self._shapes)
        for name, value in state.items():
            arrays[f"state.{name}"] = value
        made = self._runners[n_frames].run(arrays)
        return made["sound"][0], {name: made[f"next.{name}"] for name in self._shapes}


def open_generator(
    folder: str | Path,
    *,
    device: Device = "cpu",
    threads: int = 1,
    cache_dir: str | Path | None = None,
    strict: bool = False,
    name: str = CARD_FILE,
    golden: bool = True,
) -> OnnxGenerator:
    """Open an exported generator, or one inside a bundle, and check that it is what it says.

    Parameters
    ----------
    folder : str or Path
        Holds `generator.json` and the files that it names.
    device : {"cpu", "cuda", "tensorrt"}
        What to try; if it is not there, one warning and the CPU.
    threads : int
        Of the CPU. At these sizes a second one gains nothing.
    cache_dir : str or Path, optional
        TensorRT: where engines are kept.
    strict : bool
        Refuse where the device cannot be had.
    name : str
        Of the card.
    golden : bool
        Compare the sound of a fixed input with what it was at export. False only while a folder is
        written.

    Returns
    -------
    generator : OnnxGenerator
        Every length has run once, with the sound that it had at export.

    Raises
    ------
    BundleError
        If a file is missing or was changed, or a graph is not what the card says.
    DeviceError
        If the device cannot be had and `strict`, or it computes something else.
    SettingError
        If an argument is not usable.
    """
    home = Path(folder)
    card = read_generator_card(home, name=name)
    check_generator_files(home, card, role="live")
    first = _first_state(home, card)
    constants = {
        key: np.asarray(read_array(home, card, file, ndim=3))
        for key, file in card.constants.items()
    }
    runners: dict[int, BoundRunner] = {}
    engines: dict[int, Path] = {}
    for entry in card.graphs:
        kept = _engine_folder(cache_dir, card, entry, device, strict=strict)
        if kept is not None:
            engines[entry.n_frames] = kept
        runner = open_bound_runner(
            home / entry.file,
            device=device,
            threads=threads,
            cache_dir=kept,
            fp16=card.precision == "fp16",
            strict=strict,
            constants=constants,
        )
        device = runner.device  # what the first could not have is not tried again
        _check_graph(f"Generator {home.name!r}: {entry.file}", runner, card, entry)
        runners[entry.n_frames] = runner
    generator = OnnxGenerator(card, runners, first)
    if golden:
        expected = read_array(home, card, card.golden_file, ndim=1)
        _check_golden(generator, expected, home.name, engines)
    return generator


def golden_input(spec: GeneratorSpec) -> GeneratorInput:
    """Return the fixed condition whose sound is kept with a generator."""
    rng = np.random.default_rng(2026)
    vector = rng.standard_normal(CONDITION_DIM).astype(np.float32)
    tokens = None
    if spec.family.startswith("audioldm2"):
        count = 8 if spec.family == "audioldm2" else 512
        tokens = rng.standard_normal((count, TOKEN_DIM)).astype(np.float32)
    return GeneratorInput(
        vector=vector / np.linalg.norm(vector) if "vector" in spec.conditions else None,
        tokens=tokens,
    )


def golden_noise(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the fixed noise that goes with `golden_input`."""
    return np.random.default_rng(2027).standard_normal(shape).astype(np.float32)


def _first_state(home: Path, card: GeneratorCard) -> GeneratorState:
    flat = read_array(home, card, card.state_file, ndim=1)
    sizes = [math.prod(entry.shape) for entry in card.state]
    if len(flat) != sum(sizes) or not np.isfinite(flat).all():
        raise BundleError(
            f"Generator {home.name!r}: {card.state_file} should hold {sum(sizes)} finite values, "
            f"got {len(flat)}. Export it again."
        )
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return {
        entry.name: np.array(part.reshape(entry.shape))
        for entry, part in zip(card.state, parts, strict=True)
    }


def _check_graph(where: str, runner: BoundRunner, card: GeneratorCard, entry: GraphEntry) -> None:
    """Compare names, shapes and types of a graph with the card."""
    spec, n_frames = card.spec, entry.n_frames
    state = {item.name: item.shape for item in card.state}
    takes: dict[str, tuple[int, ...]] = {
        "noise": entry.noise,
        **{f"state.{name}": shape for name, shape in state.items()},
    }
    for name, value in stretch_arrays(
        golden_input(spec), spec, n_frames=n_frames, silence=card.silent_latent
    ).items():
        takes[name] = value.shape
    gives: dict[str, tuple[int, ...]] = {
        "sound": (1, n_frames * spec.samples_per_frame),
        **{f"next.{name}": shape for name, shape in state.items()},
    }
    for kind, expected, found in (
        ("input", takes, runner.inputs),
        ("output", gives, runner.outputs),
    ):
        _check_tensors(f"{where}: {kind}", expected, found)


def _check_tensors(
    where: str, expected: dict[str, tuple[int, ...]], found: tuple[TensorInfo, ...]
) -> None:
    came = {item.name: (item.shape, str(item.dtype)) for item in found}
    for name in sorted(expected.keys() | came.keys()):
        wanted = (expected[name], "float32") if name in expected else None
        if came.get(name) != wanted:
            raise BundleError(
                f"{where} {name!r} should be {wanted or 'absent'}, but is "
                f"{came.get(name, 'absent')}. The graph is not the one that the card describes; "
                "export the generator again."
            )


def _engine_folder(
    cache_dir: str | Path | None,
    card: GeneratorCard,
    entry: GraphEntry,
    device: Device,
    *,
    strict: bool,
) -> Path | None:
    """Return where TensorRT keeps the engine of a graph, if it is asked for and can be had."""
    if device != "tensorrt" or cache_dir is None:
        return None
    from export.engines import engine_folder

    try:
        return engine_folder(Path(cache_dir), card, entry)
    except DeviceError:
        if strict:
            raise
        return None  # opening the graph says why, and takes the CPU


def _check_golden(
    generator: OnnxGenerator,
    golden: NDArray[np.float32],
    where: str,
    engines: dict[int, Path],
) -> None:
    """Run every length on the fixed input: warms up, and shows whether it computes what it should.

    Raises
    ------
    BundleError
        If the file does not hold the sound of every length.
    DeviceError
        If a sound is not finite, or too far from what it was at export.
    """
    spec, card = generator.spec, generator.card
    if len(golden) != sum(spec.stretches) * spec.samples_per_frame:
        raise BundleError(
            f"Generator {where!r}: {card.golden_file} has {len(golden)} samples, expected "
            f"{sum(spec.stretches) * spec.samples_per_frame}. Export it again."
        )
    bound = _CLOSE[card.precision]
    if generator.device != "cpu":
        bound = max(bound, _CLOSE_GPU)
    first = 0
    for n_frames in spec.stretches:
        noise = golden_noise(generator.noise_shape(n_frames))
        sound, after = generator.stretch(
            golden_input(spec), generator.initial_state(), noise, n_frames=n_frames
        )
        expected = golden[first : first + len(sound)]
        first += len(sound)
        finite = np.isfinite(sound).all() and all(np.isfinite(v).all() for v in after.values())
        error = relative_error(sound, expected)
        if not finite or not error <= bound:
            raise DeviceError(
                f"Generator {where!r} computes something else on {generator.device} than at its "
                f"export: stretches of {n_frames} frames have a relative error of {error:.2g}, at "
                f"most {bound:g} was expected. Remove its cached engines, update the driver, or "
                "choose --device cpu."
            )
        if n_frames in engines and generator.device == "tensorrt":
            from export.engines import check_engine_golden

            check_engine_golden(engines[n_frames], sound)
