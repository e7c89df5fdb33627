"""The command `hearback export`; everything else is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from export.progress import step_progress

if TYPE_CHECKING:
    from export.generator_files import GeneratorCard
    from export.generator_folder import Checks, Precision
    from export.runtime import Device

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Try it:  hearback export training --out generator")(export)


def export(
    what: Annotated[
        Path,
        typer.Argument(
            help="Folder of a training run, of a MusicLDM or AudioLDM 2 checkpoint, of a generator "
            "that was exported, or a bundle."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    precision: Annotated[
        Literal["fp32", "fp16"] | None,
        typer.Option(help="Of products and weights. Default: fp32, or what a bundle has."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of the sampler; also of an exported small one. Default: 4; teacher 32."
        ),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda", "tensorrt"],
        typer.Option(help="Where it is run once; tensorrt builds the engines."),
    ] = "cpu",
    teacher: Annotated[
        bool, typer.Option("--teacher", help="The many-step denoiser, though a distilled is there.")
    ] = False,
    text: Annotated[
        Path | None,
        typer.Option(help="AudioLDM 2: FLAN-T5's context, .npy of shape (length, 1024)."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="tensorrt: folder of the engines. Default: beside OUT.")
    ] = None,
    conditions: Annotated[
        int, typer.Option(min=1, help="Random conditions that must give finite sound.")
    ] = 1000,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write it though it is too far from torch.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a generator or bundle at OUT.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
) -> None:
    """Write a generator as ONNX graphs that run without torch, and compare them with it."""
    from export.engines import need_device
    from export.generator_folder import Checks

    need_device(device)
    with step_progress(quiet=json_) as update:
        checks = Checks(conditions=conditions, accept=accept, progress=update)
        card = _export(
            what,
            out,
            precision=precision,
            steps=steps,
            teacher=teacher,
            text=text,
            overwrite=overwrite,
            checks=checks,
        )
        update(f"opening on {device}", 0, 0)
        values = _opened(out, card, device, cache or out.with_name(f"{out.name}.engines"))
    _show(values)
    if json_:
        typer.echo(json.dumps(values, allow_nan=False))


def _export(
    what: Path,
    out: Path,
    *,
    precision: Precision | None,
    steps: int | None,
    teacher: bool,
    text: Path | None,
    overwrite: bool,
    checks: Checks,
) -> GeneratorCard | None:
    """Export whatever is in a folder; return the generator's card, if there is a generator."""
    from export.sources import export_networks, kind_of
    from models.errors import SettingError

    kind = kind_of(what)
    anew = kind == "generator" and steps is not None  # from the networks in its graphs
    if kind in ("generator", "bundle") and not anew:
        from export.convert import reexport

        surplus = {"--steps": steps is not None, "--teacher": teacher, "--text": text is not None}
        given = [name for name, is_given in surplus.items() if is_given]
        if given:
            raise SettingError(
                f"{what} is exported already: {given[0]} can no longer be changed. Export its "
                "training run or checkpoint again."
            )
        return reexport(what, out, precision=precision, overwrite=overwrite, checks=checks)
    return export_networks(
        what,
        out,
        kind=kind,
        precision=precision or "fp32",
        steps=steps,
        teacher=teacher,
        text=text,
        overwrite=overwrite,
        checks=checks,
    )


def _opened(out: Path, card: GeneratorCard | None, device: Device, cache: Path) -> dict[str, Any]:
    """Open what was written on the device and return what is to be told."""
    from export.bundle import load_bundle
    from export.chains import CoarseToFineChain, SemanticChain
    from export.generator import open_generator
    from export.generator_files import CARD_FILE
    from export.runtime import open_decoder

    values: dict[str, Any] = {
        "out": str(out),
        "bytes": sum(file.stat().st_size for file in out.iterdir() if file.is_file()),
    }
    name = CARD_FILE
    if (out / "manifest.json").is_file():
        bundle = load_bundle(out)
        values["bundle"] = bundle.digest
        if card is None:
            runner = open_decoder(bundle, device=device, strict=True)
            return values | {"device": runner.device, "providers": list(runner.providers)}
        chain = bundle.manifest.chain
        assert isinstance(chain, SemanticChain | CoarseToFineChain)
        name = chain.generator
    assert card is not None
    generator = open_generator(out, device=device, strict=True, cache_dir=cache, name=name)
    spec = card.spec
    return values | {
        "live_bytes": sum(file.bytes for file in card.files.values() if file.role == "live"),
        "family": spec.family,
        "size": spec.size,
        "steps": spec.steps,
        "sampler": card.sampler,
        "stretches": list(spec.stretches),
        "precision": card.precision,
        "device": generator.device,
        "providers": list(generator.providers),
        "figures": card.parity["figures"],
        "failed": card.parity["failed"],
        "licence": card.licence,
    }


def _show(values: dict[str, Any]) -> None:
    """Print the report for a person, on standard error."""
    from rich.console import Console
    from rich.table import Table

    from export.generator_page import figure_text

    console = Console(stderr=True)
    if "figures" in values:
        table = Table("figure", "value", title="Exported graphs beside the networks")
        for name, value in sorted(values["figures"].items()):
            table.add_row(name, figure_text(value))
        console.print(table)
        console.print(
            f"{values['family']} {values['size']}: {values['steps']} steps of {values['sampler']}, "
            f"{values['precision']}, {values['live_bytes'] / 1e6:.1f} MB to run, "
            f"{values['bytes'] / 1e6:.1f} MB in all. Licence: {values['licence']}.",
            highlight=False,
        )
        for text in values["failed"]:
            console.print(f"Accepted: {text}.", highlight=False)
    console.print(
        f"Written to {values['out']}; runs on {values['device']} "
        f"({', '.join(values['providers'])}).",
        highlight=False,
    )
