"""Which recordings a BIDS data set has, whose they are, and which of them were fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.readers.options import ReadOptions, chosen_participants, wanted
from models.errors import FileError, SettingError
from stream.readers.bids import entities, inherited, is_bids_name

__all__ = ["BidsRun", "bids_participants", "bids_runs", "events_table", "stimuli_folder"]

_DERIVED = {"derivatives", "sourcedata", "code"}
# Say how an image was made from a run, not which run it is.
_NO_RUN = {"sub", "ses", "space", "desc", "res", "den", "hemi"}
_FETCH = "Fetch them, e.g. `datalad get {where}` or `git annex get {where}`."


@dataclass(frozen=True, slots=True)
class BidsRun:
    """One recording of a BIDS data set."""

    path: Path
    participant: str  # with "sub-"
    session: str  # with "ses-", or empty
    run: str  # all that tells the run, e.g. "task-music_run-01"

    @property
    def task(self) -> str:
        """Name of the task."""
        return entities(self.path.name).get("task", "")


def _below(root: Path, pattern: str) -> list[Path]:
    return sorted(
        path
        for path in root.rglob(pattern)
        if not _DERIVED.intersection(path.relative_to(root).parts)
    )


def _all(root: Path, kind: str) -> list[Path]:
    """Return recordings ("bold" or "eeg"), links to nothing among them."""
    return [
        path
        for path in _below(root, f"sub-*_*{kind}.*")
        if is_bids_name(path) and path.name.split(".")[0].endswith(kind)
    ]


def bids_participants(root: Path, *, kind: str) -> tuple[str, ...]:
    """Return the participants who have a folder, a recording or its sidecar, in order."""
    names = {path.name for path in root.glob("sub-*") if path.is_dir()}
    described = [*_all(root, kind), *_below(root, f"sub-*_{kind}.json")]
    names.update(f"sub-{entities(path.name)['sub']}" for path in described)
    return tuple(sorted(names))


def bids_runs(root: Path, options: ReadOptions, *, kind: str, warnings: list[str]) -> list[BidsRun]:
    """Return the recordings that are wanted and were fetched, by participant, session and run.

    Parameters
    ----------
    root : Path
        Of the data set, or of a derivative.
    options : ReadOptions
        `participants`, `sessions`, `tasks`, `runs` and `select` choose.
    kind : str
        "bold" or "eeg".
    warnings : list of str
        A sentence on each participant with recordings that were not fetched is added, as long as
        others were.

    Raises
    ------
    FileError
        If somebody who is wanted has no recording, or none was fetched.
    SettingError
        If one run has several images (spaces, resolutions), and `select` does not choose.
    """
    there = bids_participants(root, kind=kind)
    people = chosen_participants(there, options, path=root)
    found = [_run(path) for path in _all(root, kind)]
    mine = [item for item in found if item.participant in people]
    if options.select is not None:
        chosen = [item for item in mine if options.select in item.path.name]
        if mine and not chosen:
            raise SettingError(
                f"No image of {root.name} has {options.select!r} in its name; there are "
                f"{_listed([item.path for item in mine])}."
            )
        mine = chosen
    fitting = [item for item in mine if _fits(item, options)]
    for person in people:
        if not any(item.participant == person for item in fitting):
            _refuse(root, person, mine, kind)
    _check_single(fitting)
    held = [item for item in fitting if _is_held(item.path)]
    for person in people:
        lost = [i for i in fitting if i.participant == person and i not in held]
        if not lost:
            continue
        what = (
            f"{person}: {len(lost)} of {sum(i.participant == person for i in fitting)} recordings "
            f"hold no data ({_listed([i.path for i in lost], 3)}): they are empty, or links to "
            f"content that was not fetched."
        )
        where = lost[0].path.parent.relative_to(root)
        if len(lost) == sum(i.participant == person for i in fitting):
            raise FileError(f"{what} {_FETCH.format(where=where)}")
        warnings.append(f"{what} They are left out.")
    return held


def _run(path: Path) -> BidsRun:
    known = entities(path.name)
    session = f"ses-{known['ses']}" if "ses" in known else ""
    run = "_".join(f"{key}-{value}" for key, value in known.items() if key not in _NO_RUN)
    return BidsRun(path, f"sub-{known['sub']}", session, run or "run")


def _fits(item: BidsRun, options: ReadOptions) -> bool:
    known = entities(item.path.name)
    return (
        wanted(item.session, options.sessions, key="ses")
        and wanted(item.task, options.tasks, key="task")
        and (
            wanted(item.run, options.runs)
            or ("run" in known and wanted(known["run"], options.runs, key="run"))
        )
    )


def _refuse(root: Path, person: str, mine: Sequence[BidsRun], kind: str) -> None:
    names = [item.run for item in mine if item.participant == person]
    if names:
        raise FileError(
            f"{person} has no recording that was asked for; there are {', '.join(names[:8])}. "
            f"Correct sessions, tasks or runs."
        )
    sidecars = _below(root, f"{person}_*_{kind}.json")
    if sidecars:
        where = sidecars[0].parent.relative_to(root)
        raise FileError(
            f"{person}: {len(sidecars)} runs are described and none of their recordings is here. "
            f"{_FETCH.format(where=where)}"
        )
    raise FileError(
        f"{person} has no {kind} recording in {root}. Get the whole data set, or name another "
        f"participant."
    )


def _is_held(path: Path) -> bool:
    """Tell whether a recording's content is here: BrainVision headers are small text beside it."""
    parts = [path]
    if path.suffix == ".vhdr":
        parts.append(path.with_suffix(".eeg"))
    for part in parts:
        if not part.exists() or part.stat().st_size == 0:
            return False
        with part.open("rb") as file:
            head = file.read(512)
        if b".git/annex/objects/" in head or head.startswith(b"/annex/objects/"):
            return False
    return True


def _check_single(items: Sequence[BidsRun]) -> None:
    seen: dict[tuple[str, str, str], Path] = {}
    for item in items:
        other = seen.setdefault((item.participant, item.session, item.run), item.path)
        if other != item.path:
            raise SettingError(
                f"{item.participant} has several images of one run: {other.name}, "
                f"{item.path.name}. Choose by a part of the name (select), e.g. "
                f"{_difference(item.path.name, other.name)!r}."
            )


def _difference(name: str, other: str) -> str:
    parts = [part for part in name.split("_") if part not in other.split("_")]
    return parts[0] if parts else name


def _listed(paths: Sequence[Path], n: int = 6) -> str:
    names = ", ".join(path.name for path in paths[:n])
    return names + (", ..." if len(paths) > n else "")


def events_table(item: BidsRun, root: Path, options: ReadOptions) -> Path | None:
    """Return the events table of a run; for a derivative, that of the data set it came from."""
    if options.events is not None and options.events.is_file():
        return options.events
    if options.events is None:
        found = inherited(item.path, "events.tsv")
        if found is not None:
            return found
    sources = [options.events] if options.events is not None else _sources(root)
    wanted_parts = {k: v for k, v in entities(item.path.name).items() if k not in _NO_RUN}
    for source in sources:
        folder = source / item.participant / item.session / item.path.parent.name
        for table in sorted(folder.glob("*_events.tsv")):
            known = {k: v for k, v in entities(table.name).items() if k not in _NO_RUN}
            if known.items() <= wanted_parts.items():
                return table
        if folder.is_dir() and (found := inherited(folder / item.path.name, "events.tsv")):
            return found
    return None


def _sources(root: Path) -> list[Path]:
    """Return the data set that a derivative lies in, where it lies in one."""
    for folder in (root, *root.parents):
        if folder.name == "derivatives":
            return [folder.parent]
    return []


def stimuli_folder(root: Path, options: ReadOptions) -> Path | None:
    """Return where the stimuli are: where a person says, else `stimuli/` of the data set."""
    if options.stimuli is not None:
        return options.stimuli
    return next(
        (here for base in (root, *_sources(root)) if (here := base / "stimuli").is_dir()), None
    )
