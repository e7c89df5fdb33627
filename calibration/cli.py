"""The commands of calibration; each imports what it needs when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from export.progress import step_progress

__all__ = ["register"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object last.")]
Participant = Annotated[
    list[str] | None,
    typer.Option(help="Whose recordings; may be given again. all: everybody's."),
]
Config = Annotated[Path | None, typer.Option(help="TOML file with all settings.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Try it:  hearback simulate --out sim --timetable short")(simulate)
    app.command(epilog="Try it:  hearback calibrate sim --participant sub-01 --out bundles/sub-01")(
        calibrate
    )
    app.command(epilog="Try it:  hearback evaluate bundles/sub-01 sim")(evaluate)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _result(values: dict[str, Any]) -> None:
    """Write the one JSON object that `--json` promises, last on standard output."""
    from calibration.json_values import json_values

    typer.echo(json.dumps(json_values(values), allow_nan=False))


def simulate(
    *,
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    modality: Annotated[Literal["fmri", "eeg"], typer.Option(help="What is measured.")] = "fmri",
    people: Annotated[int, typer.Option(help="How many; they hear the same.")] = 1,
    snr: Annotated[
        float | None, typer.Option(help="Variance of signal over noise; 0: a deaf brain.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of sounds, brains and noise.")] = 0,
    timetable: Annotated[
        Literal["ds003720", "short"] | None,
        typer.Option(help="Order of the sounds; default: ds003720 for fMRI, short for EEG."),
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Write a BIDS data set of simulated listeners, with their sounds and the truth."""
    from calibration.simulate import SimulationSettings, simulate_dataset

    given = {"snr": snr, "timetable": timetable}
    settings = SimulationSettings(
        modality=modality,
        n_people=people,
        seed=seed,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    with step_progress(quiet=json_) as update:
        path = simulate_dataset(
            out, settings, progress=lambda done, total: update("simulating", done, total)
        )
    _say(f"Simulated {people} {'person' if people == 1 else 'people'} in {path}")
    if json_:
        names = [f"sub-{k + 1:02d}" for k in range(people)]
        values = {"out": str(path), "modality": modality, "participants": names, "seed": seed}
        _result(values)


def calibrate(
    dataset: Annotated[
        Path | None, typer.Argument(help="BIDS or another data set, or a folder of recordings.")
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option(help="Folder of the bundle; of several bundles for several people.")
    ],
    participant: Participant = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(help="TOML file with all settings; given again: a bundle for each."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="clap:FOLDER, mel-statistics, mel, class, ...; default: by the recordings."
        ),
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option(help="Folder or table of the sounds that were heard.")
    ] = None,
    library: Annotated[
        Path | None, typer.Option(help="Folder of the sounds to play; default: those heard.")
    ] = None,
    generator: Annotated[
        Path | None,
        typer.Option(help="FOLDER or default: make new sound by a generator; scored as well."),
    ] = None,
    chain: Annotated[
        Literal["semantic", "coarse-to-fine"] | None,
        typer.Option(help="With a generator: by the embedding alone, or by acoustic tokens too."),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(help="With AudioLDM 2: audiomae:FILE, which makes its acoustic tokens."),
    ] = None,
    start: Annotated[
        Literal["none", "retrieval"] | None,
        typer.Option(help="With a generator: from noise, or from the nearest library sound."),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", help="Others of the data set who help to train; may be repeated."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask: tcp://HOST:PORT, or local; several people at once.")
    ] = None,
    updatable: Annotated[
        bool, typer.Option("--updatable", help="Keep what a later --update needs.")
    ] = False,
    update: Annotated[
        Path | None, typer.Option(help="Bundle that takes these recordings in, in a second.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Play the stimuli, record the stream, then fit.")
    ] = False,
    stream: Annotated[str | None, typer.Option(help="--live: name of the LSL stream.")] = None,
    sink: Annotated[
        str | None, typer.Option(help="--live: device (default), null, or a .wav file.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="--live: how often each sound is played.")] = 3,
    gap_s: Annotated[float, typer.Option(help="--live: silence between sounds, s.")] = 1.0,
    lan: Annotated[bool, typer.Option("--lan", help="--live: look in the whole network.")] = False,
    json_: JsonFlag = False,
) -> None:
    """Fit a participant's decoder, score it honestly, and write a bundle with its report."""
    from dataclasses import replace

    from calibration.config import load_calibration_settings
    from models.errors import SettingError

    def chosen(path: Path | None) -> Any:
        """Return the settings of a file, with what the command line says over it."""
        settings = load_calibration_settings(path, target=target)
        if stimuli is not None:
            settings = replace(settings, data=replace(settings.data, stimuli=stimuli))
        if library is not None:
            settings = replace(settings, library=replace(settings.library, folder=library))
        place = generator
        if place is not None and place != Path("default"):
            place = place.absolute()
        ends = settings.generator
        ends = replace(
            ends,
            folder=place or ends.folder,
            chain=chain or ends.chain,
            tokens=tokens or ends.tokens,
            start=start or ends.start,
        )
        settings = replace(settings, generator=ends)
        if (chain or start or tokens) and ends.folder is None:
            raise SettingError(
                "--chain, --start and --tokens go with --generator. Name one, or 'default'."
            )
        if with_:
            settings = replace(settings, people=replace(settings.people, align=tuple(with_)))
        return replace(settings, updatable=updatable or settings.updatable)

    names = [path.stem for path in config or []]
    if len(names) > 1 and (live or update is not None or len(set(names)) < len(names)):
        raise SettingError(
            "Several --config files need different names, and neither --live nor --update."
        )
    every = {path.stem: chosen(path) for path in config} if config else {"": chosen(None)}
    settings = next(iter(every.values()))
    if live:
        if stream is None or stimuli is None or dataset is not None:
            raise SettingError(
                "calibrate --live needs --stream NAME and --stimuli FOLDER, and no data set."
            )
        dataset, settings = _record_live(
            settings, stream=stream, stimuli=stimuli, out=out, sink=sink, repeats=repeats,
            gap_s=gap_s, lan=lan, quiet=json_,
        )  # fmt: skip
    if dataset is None:
        raise SettingError("Name the data set to calibrate on, or calibrate --live.")
    if update is not None:
        _update(update, dataset, out, participant, settings, json_=json_)
        return
    every = every if len(every) > 1 else {"": settings}
    _calibrate_people(dataset, participant, out, every, scheduler, json_=json_)


def _update(
    bundle: Path,
    dataset: Path,
    out: Path,
    participant: list[str] | None,
    settings: Any,
    *,
    json_: bool,
) -> None:
    """Take new recordings into a bundle."""
    from calibration.recalibrate import update_bundle

    with step_progress(quiet=json_) as update:
        values = update_bundle(
            bundle,
            dataset,
            out,
            participant=participant[0] if participant else None,
            settings=settings,
            progress=update,
        )
    _say(f"Took {values['windows_taken_in']} windows in, in {values['update_s']:.2f} s: {out}")
    if json_:
        _result(values)


def _record_live(settings: Any, *, quiet: bool, **options: Any) -> tuple[Path, Any]:
    from calibration.live_session import LiveCalibration, record_live

    with step_progress(quiet=quiet) as update:
        made: tuple[Path, Any] = record_live(
            LiveCalibration(**options), settings, progress=update, on_message=_say
        )
        return made


def _calibrate_people(
    dataset: Path,
    participant: list[str] | None,
    out: Path,
    every: dict[str, Any],
    scheduler: str | None,
    *,
    json_: bool,
) -> None:
    from calibration.cluster import run_jobs
    from calibration.pipeline import CalibrationJob
    from calibration.pipeline import calibrate as run_calibration
    from calibration.told import told_result

    people: list[str | None] = [*participant] if participant else [None]
    if participant == ["all"]:
        from calibration.readers import list_participants

        people = list(list_participants(dataset))
    several = len(people) * len(every) > 1
    jobs = []
    for name, settings in every.items():
        for who in people:
            place = out / name if name else out
            place = place / str(who) if len(people) > 1 else place
            jobs.append(CalibrationJob(dataset.absolute(), who, place.absolute(), settings))
    try:
        if scheduler is None:
            with step_progress(quiet=json_) as update:
                results = run_jobs(lambda job: run_calibration(job, progress=update), jobs)
        else:
            results = run_jobs(
                run_calibration,
                jobs,
                scheduler=scheduler,
                on_done=lambda _k, result: _say(f"{result.participant}: done"),
            )
    except KeyboardInterrupt:
        kept = ", ".join(f"{job.out.name}.steps" for job in jobs)
        _say(f"Stopped. What was done is kept in {kept}; the same command goes on from there.")
        raise typer.Exit(4) from None
    for job, result in zip(jobs, results, strict=True):
        told_result(result, _say)
        _say(f"Bundle and report.html: {job.out}")
    if json_:
        lines = [
            {**result.line(), "bundle": str(job.out)}
            for job, result in zip(jobs, results, strict=True)
        ]
        values = {**lines[0], "participants": lines} if several else lines[0]
        _result(values)


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    dataset: Annotated[Path, typer.Argument(help="Recordings with known stimuli.")],
    *,
    participant: Annotated[str | None, typer.Option(help="Whose recordings.")] = None,
    config: Config = None,
    stimuli: Annotated[Path | None, typer.Option(help="Folder or table of the sounds.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and .json.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Score a bundle on recordings that it was not fitted on."""
    from dataclasses import replace

    from calibration.config import load_calibration_settings
    from calibration.evaluate import EvaluationJob
    from calibration.evaluate import evaluate as run_evaluation
    from calibration.told import told_result

    settings = load_calibration_settings(config)
    if stimuli is not None:
        settings = replace(settings, data=replace(settings.data, stimuli=stimuli))
    with step_progress(quiet=json_) as update:
        result = run_evaluation(
            EvaluationJob(bundle, dataset, participant, settings, out), progress=update
        )
    told_result(result, _say)
    if json_:
        _result(result.line())
