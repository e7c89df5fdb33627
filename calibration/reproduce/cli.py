"""The command `hearback reproduce`; everything else is imported when it runs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from export.progress import step_progress

__all__ = ["register"]

Name = Literal["brain2music", "musical-perception", "c2f-ldm", "synthetic-fmri", "eeg-to-mel"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Try it:  hearback reproduce synthetic-fmri --out reproduced")(reproduce)


def reproduce(
    paper: Annotated[Name, typer.Argument(help="Which paper.")],
    *,
    data: Annotated[Path | None, typer.Option(help="Folder of the paper's data set.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for reproduce-NAME.md and .json.")
    ] = None,
    participant: Annotated[
        list[str] | None, typer.Option(help="Whose; may be given again. Default: everybody's.")
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option(help="Folder or table of the sounds that were heard.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Image of the voxels to keep.")] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label image of regions; may be given again.")
    ] = None,
    label_names: Annotated[Path | None, typer.Option(help="Names of the labels.")] = None,
    select: Annotated[str | None, typer.Option(help="Part of the images' names.")] = None,
    clap: Annotated[str | None, typer.Option(help="Folder of LAION-CLAP, or a hub id.")] = None,
    audiomae: Annotated[str | None, typer.Option(help="AudioMAE's weights.")] = None,
    wav2vec2: Annotated[str | None, typer.Option(help="Folder of wav2vec 2.0.")] = None,
    hubert: Annotated[str | None, typer.Option(help="Folder of HuBERT.")] = None,
    embedder: Annotated[
        list[str] | None, typer.Option(help="Another embedding by name; may be given again.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Weights named by hub id may be fetched.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this table; may be given again.")
    ] = None,
    lag_s: Annotated[
        float | None, typer.Option(help="Brain after sound, s; default: fitted in training.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Go on with a part of the data set.")
    ] = False,
    seconds: Annotated[int, typer.Option(help="eeg-to-mel: seconds of each trial.")] = 270,
    shuffled: Annotated[int, typer.Option(help="Decoders of shuffled brains a row.")] = 1,
    permutations: Annotated[int, typer.Option(help="Of each permutation test.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of permutations and shuffled brains.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
) -> None:
    """Compute a paper's numbers on its data: ours, the paper's, the difference, the controls."""
    from rich.console import Console

    from calibration.reproduce.options import ReproduceOptions
    from calibration.reproduce.run import reproduce as run
    from calibration.reproduce.show import print_tables, write_files

    options = ReproduceOptions(
        data=data,
        out=out,
        participants=tuple(participant or ()),
        stimuli=stimuli,
        mask=mask,
        labels=tuple(labels or ()),
        label_names=label_names,
        select=select,
        clap=clap,
        audiomae=audiomae,
        wav2vec2=wav2vec2,
        hubert=hubert,
        embedders=tuple(embedder or ()),
        download=download,
        only=tuple(only or ()),
        lag_s=lag_s,
        partial=partial,
        seconds=seconds,
        n_shuffled=shuffled,
        n_permutations=permutations,
        seed=seed,
    )
    began = time.perf_counter()
    with step_progress(quiet=json_) as update:
        page = run(paper, options, progress=update)
    page = replace(page, seconds=time.perf_counter() - began)
    console: Any = Console(stderr=json_)
    print_tables(page, console)
    if out is not None:
        for path in write_files(page, out):
            typer.echo(f"Wrote {path}", err=True)
    if json_:
        typer.echo(json.dumps(page.to_json(), allow_nan=False))
