"""What a data set holds, counted: what a person wants to see before an hour of fitting."""

from __future__ import annotations

from collections import Counter
from typing import Any

from calibration.data.dataset import Dataset

__all__ = ["describe"]


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return the counts of a data set as JSON values.

    Returns
    -------
    counts : dict
        `format`, `modality`, `n_channels` and `channels` (EEG), `n_voxels` and `rois` (BOLD, by
        participant), `sfreq_hz`, `tr_s` (BOLD), `n_stimuli`, `n_with_sound`, `labels`
        (class -> stimuli), `participants` (for each: `runs`, `sessions`, `samples`, `seconds`, and
        by part `clips`, `presentations`, `repetitions` as "4" or "1 to 4"), `warnings`.
    """
    first = dataset.runs[0] if dataset.runs else None
    counts: dict[str, Any] = {
        "path": str(dataset.path),
        "format": dataset.format,
        "modality": dataset.modality,
        "unit": dataset.unit,
        "sfreq_hz": None if first is None else round(first.sfreq_hz, 6),
        "n_stimuli": len(dataset.stimuli),
        "n_with_sound": sum(item.path is not None for item in dataset.stimuli.values()),
        "labels": dict(Counter(item.label for item in dataset.stimuli.values())),
        "participants": {name: _person(dataset, name) for name in dataset.participants},
        "warnings": list(dataset.warnings),
    }
    if dataset.modality == "eeg":
        counts["channels"] = list(dataset.channels)
        counts["n_channels"] = len(dataset.channels)
    elif first is not None:
        counts["tr_s"] = round(first.tr_s, 6)
    return counts


def _person(dataset: Dataset, name: str) -> dict[str, Any]:
    runs = [run for run in dataset.runs if run.participant == name]
    epochs = [item for item in dataset.epochs if item.participant == name]
    heard: dict[str, Counter[str]] = {}
    for run in runs:
        heard.setdefault(run.part, Counter()).update(event.stimulus for event in run.events)
    for item in epochs:
        for part, stimulus in zip(item.part.tolist(), item.stimulus.tolist(), strict=True):
            heard.setdefault(part, Counter())[stimulus] += 1
    counts: dict[str, Any] = {
        "runs": len(runs),
        "sessions": len({run.session for run in runs}),
        "samples": sum(len(run.signal) for run in runs) + sum(len(item) for item in epochs),
        "seconds": round(sum(len(run.signal) * run.tr_s for run in runs), 3),
        "parts": {
            part or "all": {
                "clips": len(times),
                "presentations": times.total(),
                "repetitions": _span(sorted(set(times.values()))),
            }
            for part, times in sorted(heard.items(), reverse=True)
            if times
        },
    }
    if dataset.modality == "bold":
        columns = {run.signal.shape[1] for run in runs} | {i.values.shape[1] for i in epochs}
        counts["n_voxels"] = max(columns, default=0)
        space = dataset.space_of(name)
        if space is not None:
            counts["rois"] = {roi: len(columns) for roi, columns in space.rois.items()}
    return counts


def _span(times: list[int]) -> str:
    return str(times[0]) if len(times) == 1 else f"{times[0]} to {times[-1]}"
