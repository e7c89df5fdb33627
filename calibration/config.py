"""The settings of a calibration: one TOML file, a table for each step; what is left out is chosen.

Where a setting is None, `calibration.pipeline` chooses by the modality and says what it chose in
the report. Everything that was used is written into the report and the bundle.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from calibration.acoustic.settings import AcousticSettings
from models.errors import SettingError
from models.settings import load_settings, settings_from_dict
from models.spec import BandPowerSpec, FeatureSpec, PsdSpec, SampleSpec, StandardiseSpec, TrMeanSpec

__all__ = [
    "CalibrationSettings",
    "DataSettings",
    "DecoderSettings",
    "EvaluationSettings",
    "FeatureSettings",
    "GeneratorChoice",
    "LagSettings",
    "LibrarySettings",
    "PeopleSettings",
    "TargetSettings",
    "load_calibration_settings",
    "settings_to_json",
]

_DECODERS = Literal["auto", "ridge", "selected", "roi-ensemble", "encoding-selected"]
_FAMILIES = Literal["auto", "clip", "run", "session", "label", "segment", "random-chunk"]
ALPHAS = tuple(float(10.0 ** (k / 2)) for k in range(0, 15))


_INF = float("inf")
_MOST = 1_000_000  # permutations: more tell nothing and take hours


def _need(good: bool, where: str, expected: str, value: object) -> None:
    if not good:
        raise SettingError(f"Setting '{where}' must be {expected}, got {value!r}.")


@dataclass(frozen=True, slots=True)
class DataSettings:
    """What is read, where the files do not say it themselves; as `calibration.readers` takes it."""

    format: str | None = None
    sessions: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    select: str | None = None  # part of the file names, where there are several kinds of runs
    mask: Path | None = None  # NIfTI
    labels: tuple[Path, ...] = ()  # NIfTI of ROI numbers, or masks
    label_names: Path | None = None
    roi: tuple[str, ...] = ()  # only the voxels of these
    tr_s: float | None = None
    stimuli: Path | None = None  # folder of sounds, or a table
    events: Path | None = None
    event_duration_s: float | None = None  # where only onsets are marked
    label_column: str | None = None
    stimulus_column: str | None = None
    markers: str | None = None  # name of the marker stream
    ignore_labels: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    signal_type: str | None = None
    unit: str | None = None
    fill_max_s: float | None = None
    stimulus_key: str | None = None
    remove_mean: bool | None = None
    strict: bool | None = None

    def options(self) -> dict[str, Any]:
        """Return what was given, as keyword arguments of `read_dataset`."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in given.items() if value is not None and value != ()}


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """The features of a window; at most one table."""

    tr_mean: TrMeanSpec | None = None
    psd: PsdSpec | None = None
    band_power: BandPowerSpec | None = None
    samples: SampleSpec | None = None

    @property
    def chosen(self) -> FeatureSpec | None:
        """The one that was given, or None."""
        given = [s for s in (self.tr_mean, self.psd, self.band_power, self.samples) if s]
        if len(given) > 1:
            raise SettingError("Give one table under [features], not several.")
        return given[0] if given else None


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """What is decoded: an embedding of the sound that was heard, or its class."""

    kind: str | None = None  # "class", or an embedder: "mel-statistics", "clap:FOLDER", ...
    stretch: Literal["clip", "window"] = "clip"  # embed the whole clip, or the window's stretch
    download: bool = False  # weights may be fetched from the hub


@dataclass(frozen=True, slots=True)
class LagSettings:
    """From the sound to the brain's answer, s; fitted on training folds unless `fixed_s`."""

    fixed_s: float | None = None
    from_s: float | None = None
    to_s: float | None = None
    step_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("fixed_s", "from_s", "to_s", "step_s"):
            value = getattr(self, name)
            # Beyond that it is no answer of a brain, and a bundle could not say it.
            _need(value is None or abs(value) <= 30, f"lag.{name}", "-30 to 30 s", value)


@dataclass(frozen=True, slots=True)
class DecoderSettings:
    """The decoder and what is chosen inside its folds."""

    kind: _DECODERS = "auto"
    alphas: tuple[float, ...] = ALPHAS
    n_folds: int = 5
    n_selected: int = 500  # voxels for each target, "selected"
    n_rois: int = 6  # "roi-ensemble"
    # Held-out r of a voxel, "encoding-selected"; chosen inside the folds.
    thresholds: tuple[float, ...] = (0.01, 0.02, 0.05, 0.08, 0.1, 0.15, 0.2)

    def __post_init__(self) -> None:
        _need(bool(self.alphas) and all(0 <= a < _INF for a in self.alphas),
              "decoder.alphas", "penalties of 0 or more", self.alphas)  # fmt: skip
        _need(self.n_folds >= 2, "decoder.n_folds", "2 or more", self.n_folds)
        _need(self.n_selected >= 1, "decoder.n_selected", "1 or more", self.n_selected)
        _need(self.n_rois >= 1, "decoder.n_rois", "1 or more", self.n_rois)
        _need(bool(self.thresholds) and all(-1 <= r < 1 for r in self.thresholds),
              "decoder.thresholds", "correlations below 1", self.thresholds)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What is held out, and how scores are tested."""

    test: Literal["auto", "dataset", "folds"] = "auto"  # "dataset": the runs it calls test
    family: _FAMILIES = "auto"  # what a fold holds out
    n_folds: int | None = None  # None: one fold for each run, session or label; else 5
    n_permutations: int = 2000
    n_bootstrap: int = 2000
    n_shuffled: int = 3  # decoders of shuffled brains
    families: bool = True  # compare split families, to detect leaks
    seed: int = 0

    def __post_init__(self) -> None:
        folds = self.n_folds is None or self.n_folds >= 2
        _need(folds, "evaluation.n_folds", "2 or more", self.n_folds)
        _need(1 <= self.n_permutations <= _MOST, "evaluation.n_permutations",
              f"1 to {_MOST}", self.n_permutations)  # fmt: skip
        _need(2 <= self.n_bootstrap <= _MOST, "evaluation.n_bootstrap",
              f"2 to {_MOST}", self.n_bootstrap)  # fmt: skip
        _need(0 <= self.n_shuffled <= 1000, "evaluation.n_shuffled", "0 to 1000", self.n_shuffled)
        _need(self.seed >= 0, "evaluation.seed", "0 or more", self.seed)


@dataclass(frozen=True, slots=True)
class LibrarySettings:
    """The sounds that a retrieval bundle chooses from: the training stimuli unless a folder."""

    folder: Path | None = None
    max_s: float = 15.0  # of each sound
    crossfade_s: float = 0.25

    def __post_init__(self) -> None:
        _need(0 < self.max_s <= 600, "library.max_s", "above 0 and at most 600 s", self.max_s)
        _need(0 <= self.crossfade_s <= 60, "library.crossfade_s", "0 to 60 s", self.crossfade_s)


@dataclass(frozen=True, slots=True)
class GeneratorChoice:
    """The generator that makes new sound, where not the sounds of a library are played.

    The embedding of its own encoder is then what is decoded, unless `target.kind` says otherwise;
    what it makes is scored by its judge, an encoder that it was not trained with.
    """

    folder: Path | None = None  # as `hearback export` wrote it, or "default"; None: no generator
    chain: Literal["semantic", "coarse-to-fine"] = "semantic"
    acoustic: Literal["ridge", "transformer"] = "ridge"  # coarse-to-fine: what decodes tokens
    # Full-size checkpoints bring nothing that makes tokens: "audiomae:FILE", or "generator:FOLDER"
    # of a small generator. The next three as in [full], if the checkpoint was tuned.
    tokens: str | None = None
    last_blocks: int = 1  # of AudioMAE: 1 its last block, 3 as AudioLDM 2 was trained
    pooling: Literal["mean", "mean-max"] = "mean"  # to the 8 tokens of AudioLDM 2
    fill: Literal["last", "zeros"] = "zeros"  # tokens after the stretch, up to 10.24 s
    # Its sizes, losses and schedule; which of the two it is says `acoustic`, not `method` there.
    acoustic_options: AcousticSettings = field(default_factory=AcousticSettings)
    # As `hearback train brain` wrote it, where the generator is exported from it: its acoustic
    # decoder, tuned along, is taken, and what it was tuned on is never scored.
    tuned: Path | None = None
    start: Literal["none", "retrieval"] = "none"  # begin from the nearest sound of the library
    strength: float = 0.7  # of the start: 1 is all new, 0 the retrieved sound as it is
    seed: int = 0  # of the noise
    steps: int | None = None  # of the sampler; an export has one number, another is refused
    # An embedder that scores. None: that of the folder; for a full-size checkpoint, which has
    # none, that of the generator that ships, else "mel-statistics".
    judge: str | None = None
    scored_strengths: tuple[float, ...] = (0.5, 0.7, 0.9)  # beside the direct sound
    scored_clips: int = 40  # drawn at random from those that are held out
    scored_s: float = 10.0  # of generated sound for each clip, at most
    n_shuffled: int = 1  # decoders of shuffled brains whose sound is generated too

    def __post_init__(self) -> None:
        every = (self.strength, *self.scored_strengths)
        _need(all(0 < s <= 1 for s in every), "generator.strength", "above 0 and at most 1", every)
        _need(self.steps is None or self.steps >= 1, "generator.steps", "1 or more", self.steps)
        _need(0 <= self.seed < 2**63, "generator.seed", "0 or more", self.seed)
        _need(self.last_blocks >= 1, "generator.last_blocks", "1 or more", self.last_blocks)
        _need(self.scored_clips >= 3, "generator.scored_clips", "3 or more", self.scored_clips)
        _need(1 <= self.scored_s <= 600, "generator.scored_s", "1 to 600 s", self.scored_s)
        _need(0 <= self.n_shuffled <= 100, "generator.n_shuffled", "0 to 100", self.n_shuffled)

    def target(self, kind: str | None) -> str | None:
        """Return what is decoded: what was asked for, else what the generator is steered by.

        Parameters
        ----------
        kind : str, optional
            The target that the settings name.

        Raises
        ------
        SettingError
            If that is nothing that a generator takes.
        """
        if self.folder is not None and kind in ("class", "mel"):
            raise SettingError(
                f"A generator takes an embedding of sounds, not the target {kind!r}. Leave "
                "target.kind out, or the generator."
            )
        return kind if kind or self.folder is None else f"generator:{self.folder}"


@dataclass(frozen=True, slots=True)
class PeopleSettings:
    """Other people of the data set, aligned to the one who is decoded; they heard the same clips.

    The paper does not say how people are pooled; see `calibration.methods.alignment`.
    """

    align: tuple[str, ...] = ()
    pooling: Literal["stack", "average", "joint"] = "stack"
    n_dims: int | None = None  # that people share; None: as many as there are


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """Everything that a calibration can be told."""

    data: DataSettings = DataSettings()
    features: FeatureSettings = FeatureSettings()
    standardise: StandardiseSpec | None = None
    windows: Literal["auto", "all", "clip"] = "auto"  # every window in a clip, or the best fitting
    target: TargetSettings = TargetSettings()
    lag: LagSettings = LagSettings()
    decoder: DecoderSettings = DecoderSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    library: LibrarySettings = LibrarySettings()
    generator: GeneratorChoice = GeneratorChoice()
    updatable: bool = False  # keep what `calibrate --update` needs
    people: PeopleSettings = PeopleSettings()


def load_calibration_settings(
    path: Path | None, *, target: str | None = None
) -> CalibrationSettings:
    """Read the settings; `target` from the command line wins over the file's.

    Raises
    ------
    FileError
        If the file cannot be read.
    SettingError
        If it has an unknown key or a value of the wrong type.
    """
    read = (
        settings_from_dict(CalibrationSettings, {})
        if path is None
        else load_settings(path, CalibrationSettings)
    )
    if target is None:
        return read
    return replace(read, target=replace(read.target, kind=target))


def settings_to_json(settings: CalibrationSettings) -> dict[str, Any]:
    """Return the settings as JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        if isinstance(value, Path):
            return value.name  # where it lay is nobody else's business
        return "inf" if value == float("inf") else value

    result: dict[str, Any] = plain(asdict(settings))
    return result
