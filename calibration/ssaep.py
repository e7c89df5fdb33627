"""Which of two amplitude-modulated sounds is heard: auditory steady-state responses in real EEG.

A sound whose loudness pulses 40 times a second makes the EEG pulse at that rate. A linear decoder
on the logarithmic spectrum tells two rates apart, and the bundle plays the sound that was heard.

`python -m calibration.ssaep FOLDER --out BUNDLE` reports what a session left out scores, then fits
a bundle on all sessions in the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.scores import permutation_p
from calibration.trials import (
    SessionOut,
    choose_and_fit,
    leave_one_session_out,
    read_trials,
    trial_windows,
)
from export.bundle import Bundle, save_bundle, standardise_file
from export.library import LibrarySound, library_files
from export.manifest import EmbeddingSpec, Manifest, RetrievalChain, SoundSpec
from export.onnx_linear import check_onnx, linear_onnx
from models.errors import HearbackError, SettingError
from models.spec import InputSpec, PsdSpec, StandardiseSpec

__all__ = [
    "SSAEP_SOUNDS",
    "SteadySound",
    "fit_bundle",
    "report_ssaep",
    "session_paths",
    "steady_sound",
]

SAMPLE_RATE_HZ = 16_000
_SOUND_S = 3.0
_STOP_S = 2.9  # windows lie between 0.3 and 2.9 s after the onset
_SETTLE_S = 30.0
_TAPERS = ("hann", "boxcar")
_WINDOWS_S = (0.5, 1.0, 2.6)


@dataclass(frozen=True, slots=True)
class SteadySound:
    """A carrier whose loudness comes in Gaussian pulses."""

    name: str
    carrier_hz: float
    modulation_hz: float


SSAEP_SOUNDS = {
    1: SteadySound("900 Hz pulsing at 45 Hz", 900.0, 45.0),
    2: SteadySound("770 Hz pulsing at 40.018 Hz", 770.0, 40.018),
}


def steady_sound(sound: SteadySound, duration_s: float = _SOUND_S) -> NDArray[np.float32]:
    """Render a sound: a carrier times Gaussian pulses with a standard deviation of period / 8.

    Returns
    -------
    pcm : array of shape (n,), float32
        16 kHz, peak 0.5.
    """
    t = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    period = 1.0 / sound.modulation_hz
    from_pulse = (t + period / 2.0) % period - period / 2.0
    pulses = np.exp(-0.5 * (from_pulse / (period / 8.0)) ** 2)
    return (0.5 * pulses * np.sin(2.0 * np.pi * sound.carrier_hz * t)).astype(np.float32)


def session_paths(folder: Path) -> list[Path]:
    """Return the sessions in a folder, in order.

    Raises
    ------
    SettingError
        If there are fewer than 2.
    """
    paths = sorted(folder.glob("*.csv"))
    if len(paths) < 2:
        raise SettingError(
            f"Leaving one session out needs 2 or more .csv files in {folder}, got {len(paths)}."
        )
    return paths


def _specs(window_s: float, hop_s: float) -> dict[str, PsdSpec]:
    """Return the spectra to choose from: 30 to 50 Hz holds both rates and what lies beside them."""
    return {
        taper: PsdSpec(
            method="periodogram",
            window_s=window_s,
            hop_s=hop_s,
            taper=taper,
            detrend="linear",
            fmin_hz=30.0,
            fmax_hz=50.0,
        )
        for taper in _TAPERS
    }


def fit_bundle(
    paths: Sequence[Path], out: Path, *, window_s: float = 2.0, hop_s: float = 0.25
) -> Bundle:
    """Fit a retrieval bundle on recorded sessions and write it.

    Its library holds the two sounds; its embedding has one dimension for each. While no sound is
    heard, the bundle goes on with the one that the last second resembled more.

    Parameters
    ----------
    paths : sequence of Path
        Sessions of one participant with the markers 1 and 2 at the onsets.
    out : Path
        Folder to make.
    window_s : float
        EEG behind each decision, s: longer is surer and later.
    hop_s : float
        Time from decision to decision, s.

    Raises
    ------
    FileError
        If a session cannot be read.
    SettingError
        If sessions have different channels or rates, or no window fits.
    """
    sessions = [read_trials(path, sound_s=_SOUND_S) for path in paths]
    first = sessions[0]
    if any((s.labels, s.sfreq_hz) != (first.labels, first.sfreq_hz) for s in sessions):
        raise SettingError("All sessions need the same channels and sampling rate.")
    specs = _specs(window_s, hop_s)
    candidates = {
        name: trial_windows(sessions, spec, stop_s=_STOP_S) for name, spec in specs.items()
    }
    some = next(iter(candidates.values()))
    codes = sorted(SSAEP_SOUNDS)
    target = (some.codes[:, None] == np.array(codes)).astype(np.float64)
    everything = np.ones(len(some.codes), bool)
    name, fit, mean, std = choose_and_fit(candidates, everything, target)
    manifest = Manifest(
        name="ssaep",
        participant=", ".join(session.name for session in sessions)[:200],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=InputSpec("eeg", len(first.labels), first.sfreq_hz, channels=first.labels),
        features=specs[name],
        # A headband sits differently each day: half a minute weighs as much as calibration did.
        standardise=StandardiseSpec(prior_n=_SETTLE_S / hop_s),
        chain=RetrievalChain(EmbeddingSpec("sound-identity", len(codes)), crossfade_s=0.05),
        sound=SoundSpec(SAMPLE_RATE_HZ, hop_s),
        fill_max_s=0.1,
        # A decision is about the middle of its window.
        lag_s=(window_s - hop_s) / 2.0,
        scores={
            "cross_validated_r": round(fit.scores[fit.alpha], 4),
            "taper": name,
            "alpha": fit.alpha,
            "n_windows": len(some.codes),
            "n_sessions": len(sessions),
        },
        software={"numpy": np.__version__},
    )
    files: dict[str, bytes | Path] = {
        "decoder.onnx": linear_onnx(fit.weights, fit.bias, normalise=True),
        "standardise.npy": standardise_file(mean, std),
        **library_files(
            [
                LibrarySound(sound.name, steady_sound(sound), str(code))
                for code, sound in SSAEP_SOUNDS.items()
            ],
            np.eye(len(codes)),
            sample_rate_hz=SAMPLE_RATE_HZ,
        ),
    }
    return save_bundle(out, manifest, files, overwrite=True)


def report_ssaep(
    folder: Path,
    out: Path | None = None,
    *,
    n_permutations: int = 200,
    progress: Callable[[float, float], None] | None = None,
) -> dict[str, Any]:
    """Leave one session out after another at each window length; write `ssaep.json` and `.md`.

    Parameters
    ----------
    folder : Path
        With the sessions as .csv.
    out : Path, optional
        Folder for the report; none is written if not given.
    n_permutations : int
        Times that the training labels are dealt out anew, at each window length.
    progress : callable, optional
        Called with what is done and what there is to do.

    Returns
    -------
    report : dict
        JSON values: for each window length the AUC of each session, their mean, the null's mean
        and 95th percentile, and the permutation p.
    """
    sessions = [read_trials(path, sound_s=_SOUND_S) for path in session_paths(folder)]
    rows = []
    for k, window_s in enumerate(_WINDOWS_S):
        if progress is not None:
            progress(k, len(_WINDOWS_S))
        result = leave_one_session_out(
            sessions,
            _specs(window_s, window_s),
            n_permutations=n_permutations,
            stop_s=_STOP_S,
        )
        rows.append(_row(window_s, result))
    report = {
        "what": "AUC of one sound against the other, each session decoded by a fit on the others",
        "features": "log periodogram 30-50 Hz, all channels; taper and penalty chosen in training",
        "sessions": [session.name for session in sessions],
        "chance": 0.5,
        "n_permutations": n_permutations,
        "windows": rows,
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "ssaep.json").write_text(json.dumps(report, indent=1) + "\n")
        (out / "ssaep.md").write_text(_markdown(report))
    return report


def _row(window_s: float, result: SessionOut) -> dict[str, Any]:
    row: dict[str, Any] = {
        "window_s": window_s,
        "auc": round(result.mean_auc, 4),
        "auc_sessions": [round(auc, 4) for auc in result.auc],
        "n_windows": result.n_windows,
        "n_trials": result.n_trials,
        "chosen": [f"{taper}, {alpha:g}" for taper, alpha in result.chosen],
    }
    if len(result.null):
        row["floor_shuffled"] = round(float(np.mean(result.null)), 4)
        row["null_95"] = round(float(np.quantile(result.null, 0.95)), 4)
        row["permutation_p"] = round(permutation_p(result.mean_auc, result.null), 4)
    return row


def _markdown(report: dict[str, Any]) -> str:
    lines = [
        "# Which of two pulsing sounds is heard (eeg_ssaep, leave one session out)",
        "",
        f"{report['what']}. Features: {report['features']}. Chance 0.5; "
        f"{report['n_permutations']} permutations of the training trials within their sessions.",
        "",
        "| window (s) | AUC | each session | shuffled: mean | shuffled: 95 % | p | windows |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["windows"]:
        each = " ".join(f"{auc:.3f}" for auc in row["auc_sessions"])
        lines.append(
            f"| {row['window_s']} | {row['auc']:.3f} | {each} | {row.get('floor_shuffled', '')} "
            f"| {row.get('null_95', '')} | {row.get('permutation_p', '')} | {row['n_windows']} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Report on a folder of sessions and fit a bundle on them."""
    parser = argparse.ArgumentParser(
        prog="python -m calibration.ssaep",
        description=__doc__,
        epilog="Try it:  python -m calibration.ssaep my-sessions --out my-bundle",
    )
    parser.add_argument("folder", type=Path, help="sessions as .csv, markers 1 and 2 at onsets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--report", type=Path, help="folder for ssaep.json and ssaep.md")
    parser.add_argument("--permutations", type=int, default=50, help="of the training labels")
    chosen = parser.parse_args(arguments)

    def progress(done: float, total: float) -> None:
        sys.stderr.write(f"Leaving sessions out: window length {done + 1:.0f} of {total:.0f} ...\n")

    try:
        check_onnx()
        report = report_ssaep(
            chosen.folder, chosen.report, n_permutations=chosen.permutations, progress=progress
        )
        sys.stdout.write(_markdown(report))
        fit_bundle(session_paths(chosen.folder), chosen.out)
    except HearbackError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.stderr.write(f"Fitted a bundle on all sessions: {chosen.out}\n")


if __name__ == "__main__":
    main()
