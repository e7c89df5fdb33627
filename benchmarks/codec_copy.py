"""Sound through codec and vocoder and back, beside Griffin-Lim of 60 iterations, in one run.

    python -m benchmarks.codec_copy TRAINING [--data ../shared/data] [--clips 39] [--quick]

TRAINING is the folder of a training run, or of an exported generator, whose networks are read back.
Procedural sounds that nothing was trained on, and recordings of speech, music and noises that are
nothing like them. Ways from a sound's log mel to sound, the first through latents as well:

    codec + vocoder        what a generator's latents come out as
    vocoder                from the true mel
    Griffin-Lim            from the true mel: what the vocoder has to beat
    codec + Griffin-Lim    from the codec's mel: what both together have to beat

Scores of a copy against its sound: correlation of log mels, log-spectral distance. Sets of files
that are not there are left out, and the results say so. Writes benchmarks/results/codec_copy.json
and .md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rig import machine, write_results
from calibration.embedders.base import at_rate
from calibration.generator_scores.copies import CopyScore, copy_score
from calibration.generator_scores.griffin_lim import griffin_lim_mel
from calibration.generator_scores.networks import Trained, open_trained, scores_folder
from calibration.generator_scores.real import real_sounds
from calibration.json_values import json_values
from calibration.synthesis import set_rms
from models.mel import MelSpec, log_mel

__all__ = ["main"]

_RATE = 16_000
_SETS = {  # folder of the shared recordings: what is in it, ending
    "audio_fsdd": ("speech", "wav"),
    "audio_librosa": ("music and speech", "ogg"),
    "audio_esc10": ("noises", "ogg"),
}
_LONGEST_S = 5.12
_LEVEL_DBFS = -24.0
_SPEC = MelSpec()
_ITERATIONS = 60

Wave = NDArray[np.float32]


def main() -> None:
    """Copy, score, write."""
    args = _arguments()
    before = machine()
    before["packages"] = {name: version(name) for name in ("numpy", "torch")}
    trained = open_trained(args.training)
    ways = _ways(trained)
    rows: list[dict[str, Any]] = []
    absent: list[str] = []
    each: dict[str, Any] = {}
    for title, sounds in _sets(args, absent):
        scores: dict[str, list[CopyScore]] = {way: [] for way in ways}
        count = 0
        for sound in sounds:
            mel = log_mel(sound, _SPEC)[: len(sound) // _SPEC.hop // 16 * 16]
            for way, make in ways.items():
                made = make(mel)
                scores[way].append(copy_score(sound[: len(made)], made))
            count += 1
        print(f"{title}: {count} sounds", flush=True)
        each[title] = {way: [score.to_json() for score in found] for way, found in scores.items()}
        for way, found in scores.items():
            same = "codec + Griffin-Lim" if way.startswith("codec") else "Griffin-Lim"
            rows.append(_row(title, way, found, scores[same]))
    settings: dict[str, Any] = {
        "clips": args.clips,
        "level_dbfs": _LEVEL_DBFS,
        "longest_s": _LONGEST_S,
        "griffin_lim_iterations": _ITERATIONS,
        "absent": absent,
        "vocoder": "trained" if trained.vocoder is not None else "not trained yet",
    }
    write_results(
        args.out,
        title="Copies of sounds: codec and vocoder beside Griffin-Lim",
        settings=settings,
        before=before,
        rows=json_values(rows),
    )
    if args.json:
        print(json.dumps(json_values({"settings": settings, "rows": rows, "each": each})))


def _ways(trained: Trained) -> dict[str, Callable[[NDArray[np.float32]], Wave]]:
    """Return the ways from a log mel to sound that this training run allows."""

    def lim(mel: NDArray[np.float32]) -> Wave:
        rng = np.random.default_rng(0)
        return griffin_lim_mel(mel, _SPEC, rng=rng, iterations=_ITERATIONS)

    @torch.inference_mode()
    def copied(mel: NDArray[np.float32]) -> NDArray[np.float32]:
        codec = trained.codec
        made: NDArray[np.float32] = codec.decode(codec.encode(torch.from_numpy(mel)[None]))[
            0
        ].numpy()
        return made

    ways: dict[str, Callable[[NDArray[np.float32]], Wave]] = {
        "Griffin-Lim": lim,
        "codec + Griffin-Lim": lambda mel: lim(copied(mel)),
    }
    vocoder = trained.vocoder
    if vocoder is None:
        return ways

    @torch.inference_mode()
    def voice(mel: NDArray[np.float32]) -> Wave:
        made: Wave = vocoder.sound(torch.from_numpy(mel)[None])[0].numpy()
        return made

    return {"codec + vocoder": lambda mel: voice(copied(mel)), "vocoder": voice, **ways}


def _row(title: str, way: str, scores: list[CopyScore], against: list[CopyScore]) -> dict[str, Any]:
    pcc = np.array([score.mel_pcc for score in scores])
    lsd = np.array([score.lsd_db for score in scores])
    better = [
        a.mel_pcc > b.mel_pcc and a.lsd_db < b.lsd_db for a, b in zip(scores, against, strict=True)
    ]
    return {
        "sounds": title,
        "n": len(scores),
        "way": way,
        "mel PCC": float(pcc.mean()),
        "mel PCC, worst": float(pcc.min()),
        "LSD dB": float(lsd.mean()),
        "better than Griffin-Lim of the same mel": float(np.mean(better)),
    }


def _sets(args: argparse.Namespace, absent: list[str]) -> Iterator[tuple[str, list[Wave]]]:
    """Return the sets of sounds by name; what is not there is noted."""
    real = real_sounds(
        scores_folder(args.training) / "real", args.clips,
        duration_s=_LONGEST_S, workers=args.workers,
    )  # fmt: skip
    yield (
        "procedural",
        [real.sound(i) for i, label in enumerate(real.labels) if label != "silence"],
    )
    for folder, (title, ending) in _SETS.items():
        place = args.data / folder
        if not place.is_dir():
            absent.append(f"{title}: no folder {folder} in the shared data")
            continue
        files = sorted(place.rglob(f"*.{ending}"))
        rng = np.random.default_rng(0)
        chosen = rng.permutation(len(files))[: args.clips]
        yield f"{title} ({folder})", [w for i in chosen if (w := _read(files[i])) is not None]


def _read(path: Path) -> Wave | None:
    """Return the first seconds of a recording at 16 kHz and a common level, None if silent."""
    import soundfile

    pcm, rate = soundfile.read(path, dtype="float32", always_2d=True)
    wave = at_rate(pcm.mean(axis=1), int(rate), _RATE)[: round(_LONGEST_S * _RATE)]
    if len(wave) < _SPEC.n_fft * 4 or float(np.sqrt(np.mean(wave**2))) < 1e-4:
        return None
    return np.asarray(set_rms(wave, _LEVEL_DBFS), np.float32)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("training", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--clips", type=int, default=39, help="of each set")
    parser.add_argument("--quick", action="store_true", help="6 of each set")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", default="codec_copy", help="name of the results")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    if args.quick:
        args.clips = 6
    return args


if __name__ == "__main__":
    main()
