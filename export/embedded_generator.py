"""A generator inside a bundle: whether its files are all there and fit what surrounds them.

The files keep the names that they have in the generator's own folder, `generator.json` with their
digests among them; so a bundle's folder can be opened as that of a generator.
"""

from __future__ import annotations

from pathlib import Path

from export.chains import CoarseToFineChain, GeneratedChain
from export.generator_files import read_generator_card
from export.manifest import Manifest
from models.errors import BundleError
from models.stretch import GeneratorSpec

__all__ = ["check_embedded_generator"]


def check_embedded_generator(folder: Path, manifest: Manifest, chain: GeneratedChain) -> None:
    """Check that a bundle has all of its generator, and one that can do what the chain wants.

    The digests of the files are those of the manifest already; here the generator's own list of
    them is compared with it.

    Raises
    ------
    BundleError
        With what was expected and what came.
    """
    where = f"Bundle {folder.name!r}: {chain.generator}"
    card = read_generator_card(folder, name=chain.generator)
    for name, file in sorted(card.files.items()):
        entry = manifest.files.get(name)
        if entry is None and file.role == "live":
            raise BundleError(
                f"{where} names {name}, which is not in the bundle. Export the bundle again."
            )
        if entry is not None and (entry.sha256, entry.bytes) != (file.sha256, file.bytes):
            raise BundleError(
                f"{where} names another {name} than the bundle holds (sha256 {file.sha256[:12]}... "
                f"and {entry.sha256[:12]}...): of another generator. Export the bundle again."
            )
    spec = card.spec
    if spec.sample_rate_hz != manifest.sound.sample_rate_hz:
        raise BundleError(
            f"{where} makes sound of {spec.sample_rate_hz} Hz, but sound.sample_rate_hz is "
            f"{manifest.sound.sample_rate_hz}. Export the bundle again."
        )
    needed = "tokens" if isinstance(chain, CoarseToFineChain) else "vector"
    if needed not in spec.conditions:
        raise BundleError(
            f"{where}: a {chain.kind} chain gives its generator {needed}, but this {spec.family} "
            f"generator takes only {' and '.join(spec.conditions)}. Choose another generator."
        )
    if isinstance(chain, CoarseToFineChain) and not _takes_steps(spec, chain.tokens.steps):
        raise BundleError(
            f"{where}: this {spec.family} generator takes "
            f"{'512 tokens (64 steps)' if spec.family == 'audioldm2-speech' else '8 tokens'}, and "
            f"the chain decodes {chain.tokens.steps} steps of 8. Calibrate with it again."
        )
    missing = set(spec.conditions) - {"vector", needed}
    if missing and spec.family != "small":  # the small ones leave open what they are not given
        raise BundleError(
            f"{where}: this {spec.family} generator needs {' and '.join(sorted(missing))}, which a "
            f"{chain.kind} chain does not decode. Choose another generator, or a coarse-to-fine "
            "chain."
        )
    if chain.start is not None and not spec.startable:
        raise BundleError(
            f"{where}: this {spec.family} generator cannot begin from a retrieved sound. Calibrate "
            "without a retrieved start, or choose another generator."
        )


def _takes_steps(spec: GeneratorSpec, steps: int) -> bool:
    """Return whether a generator can be given tokens of so many steps of time."""
    if spec.family == "audioldm2":
        return steps == 1 or steps % 8 == 0  # pooled, or to be pooled
    return spec.family != "audioldm2-speech" or steps == 64
