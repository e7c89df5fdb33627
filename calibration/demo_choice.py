"""Which demo is played: by what the listener is measured, and which chain makes the sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from calibration.generated.folder import DEFAULT_GENERATOR
from models.errors import FileError, SettingError

__all__ = ["DemoChain", "DemoKind", "DemoModality", "choose_demo", "demo_bundle", "ships_generated"]

DemoModality: TypeAlias = Literal["eeg", "fmri"]
DemoChain: TypeAlias = Literal["direct", "retrieval", "semantic", "coarse-to-fine"]

_BUNDLES = Path(__file__).parent / "demo_bundles"
_FOLDERS: dict[DemoChain, str] = {
    "direct": "eeg",
    "retrieval": "fmri",
    "semantic": "fmri-semantic",
    "coarse-to-fine": "fmri-coarse-to-fine",
}
_NAMES: dict[DemoModality, str] = {"eeg": "EEG", "fmri": "fMRI"}


@dataclass(frozen=True, slots=True)
class DemoKind:
    """What goes with each chain."""

    chain: DemoChain
    seconds: float  # that the brain is listened to, if nobody says how long
    least_s: float  # shorter says nothing
    segment_s: float | None  # what is told apart; None: clips, since the blood is slow
    tail_s: float  # left out at the start of each clip

    @property
    def modality(self) -> DemoModality:
        """By what the listener is measured."""
        return "eeg" if self.chain == "direct" else "fmri"

    @property
    def measured_by(self) -> str:
        """The same, as it is written."""
        return _NAMES[self.modality]

    @property
    def told(self) -> str:
        """What happens to what was decoded, as it is written."""
        return {
            "direct": "decoded",
            "retrieval": "decoded: the nearest sound of a library",
            "semantic": "generated from the decoded embedding",
            "coarse-to-fine": "generated from the decoded embedding and acoustic tokens",
        }[self.chain]

    @property
    def generated(self) -> bool:
        """Whether a generator makes the sound."""
        return self.chain in ("semantic", "coarse-to-fine")


_KINDS = {
    "direct": DemoKind("direct", 30.0, 3.0, 2.0, 0.0),
    "retrieval": DemoKind("retrieval", 90.0, 20.0, None, 2.0),
    "semantic": DemoKind("semantic", 60.0, 20.0, None, 2.0),
    "coarse-to-fine": DemoKind("coarse-to-fine", 60.0, 20.0, None, 2.0),
}


def choose_demo(
    modality: DemoModality | None, chain: DemoChain | None, *, bundles: Path | None = None
) -> DemoKind:
    """Return the demo that is meant.

    Without a wish: fMRI, whose sound a generator makes, where its bundle is there; else EEG.

    Parameters
    ----------
    modality : {"eeg", "fmri"}, optional
    chain : str, optional
    bundles : Path, optional
        Folder of demo bundles; the shipped ones if not given.

    Raises
    ------
    SettingError
        If the two do not go together, or are unknown.
    """
    if modality not in (None, "eeg", "fmri"):
        raise SettingError(f"--modality is 'eeg' or 'fmri', got {modality!r}.")
    if chain is not None and chain not in _KINDS:
        raise SettingError(f"--chain is one of {', '.join(_KINDS)}, got {chain!r}.")
    if chain is None:
        generated = ships_generated(bundles=bundles)
        if modality == "eeg" or (modality is None and not generated):
            return _KINDS["direct"]
        return _KINDS["semantic" if generated else "retrieval"]
    kind = _KINDS[chain]
    if modality is not None and kind.modality != modality:
        raise SettingError(
            f"--chain {chain} is that of {kind.measured_by}. Leave --modality out, or choose "
            + ("--chain direct." if modality == "eeg" else "another --chain.")
        )
    return kind


def demo_bundle(demo: DemoChain | DemoModality, *, bundles: Path | None = None) -> Path:
    """Return the folder of a demo's bundle: by its chain, or "eeg" and "fmri" for the small ones.

    Raises
    ------
    FileError
        If it is not there.
    """
    name = demo if demo == "eeg" or demo == "fmri" else _FOLDERS[demo]
    folder = (bundles or _BUNDLES) / name
    if (folder / "manifest.json").is_file():
        return folder
    raise FileError(
        f"There is no demo bundle {name!r} in {folder.parent}. Make it with: python -m "
        f"calibration.make_demo_bundles --only {name} --out {folder.parent.name}"
    )


def ships_generated(*, bundles: Path | None = None) -> bool:
    """Return whether the demo with generated sound can be played and scored."""
    folder = (bundles or _BUNDLES) / _FOLDERS["semantic"]
    if not (folder / "manifest.json").is_file():
        return False
    return any((place / "judge.onnx").is_file() for place in (folder, DEFAULT_GENERATOR))
