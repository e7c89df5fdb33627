"""Embedders by name, as a person writes them after `--target`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from calibration.embedders.base import Embedder
from models.errors import SettingError

__all__ = ["embedder_names", "make_embedder"]


def make_embedder(spec: str, **options: Any) -> Embedder:
    """Return an embedder.

    =======================  ======================================================================
    spec                     embedder
    =======================  ======================================================================
    mel-statistics           96 statistics of a log mel; no weights
    log-mel                  the log mel averaged over the window; no weights
    clap:WHERE               LAION-CLAP, sounds and texts; 512 dimensions
    hubert:WHERE             HuBERT, mean of the last hidden layers
    wav2vec2:WHERE           wav2vec 2.0, mean of the last hidden layers
    audiomae:WHERE           AudioMAE's encoder, mean of its patches
    generator:WHERE          the encoder of a generator: the space that it is steered in
    generator-judge:WHERE    the same of another seed, to score what the generator makes
    clap-small-random, hubert-small-random, wav2vec2-small-random, audiomae-small-random
                             the same classes, small, with random weights: they have learnt nothing
    =======================  ======================================================================

    Parameters
    ----------
    spec : str
        A name, or a name, a colon and where the weights are: a folder, a file or a hub id; for a
        generator a folder, or "default" for the one that ships.
    **options
        Of the embedder's class, for example `batch_size`.

    Returns
    -------
    embedder : Embedder

    Raises
    ------
    SettingError
        If there is no such embedder or option, or a package is missing.
    FileError
        If the weights are not there, damaged or of another model.
    """
    kind, _, place = spec.partition(":")
    kind = kind.strip().lower()
    place = place.strip()
    if kind not in _MAKERS:
        near = difflib.get_close_matches(kind, _MAKERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SettingError(
            f"No embedder is called {spec!r}. There are {', '.join(embedder_names())}.{hint}"
        )
    takes_place = kind in _WITH_WEIGHTS
    if takes_place != bool(place):
        raise SettingError(
            f"The embedder {kind} is written {_written(kind)!r}, got {spec!r}."
            + (" Say where its weights are." if takes_place else "")
        )
    make = _MAKERS[kind]()
    allowed = [name for name in inspect.signature(make).parameters if name not in ("self", "place")]
    if not takes_place or kind in _NEVER_FETCHED:  # nothing that the permission could be used for
        options = {name: value for name, value in options.items() if name != "download"}
    for name in options:
        if name not in allowed:
            raise SettingError(
                f"The embedder {kind} has no option {name!r}. It has {', '.join(allowed)}."
            )
    made: Embedder = make(place, **options) if takes_place else make(**options)
    return made


def embedder_names() -> tuple[str, ...]:
    """Return what `make_embedder` takes, as it is written."""
    return tuple(_written(kind) for kind in _MAKERS)


def _written(kind: str) -> str:
    return f"{kind}:{_WITH_WEIGHTS[kind]}" if kind in _WITH_WEIGHTS else kind


def _mel_statistics() -> Callable[..., Embedder]:
    from calibration.embedders.mel_statistics import MelStatisticsEmbedder

    return MelStatisticsEmbedder


def _log_mel() -> Callable[..., Embedder]:
    from calibration.embedders.mel_statistics import LogMelEmbedder

    return LogMelEmbedder


def _clap() -> Callable[..., Embedder]:
    from calibration.embedders.clap import load_clap

    return load_clap


def _clap_small() -> Callable[..., Embedder]:
    from calibration.embedders.clap import small_random_clap

    return small_random_clap


def _speech(kind: Literal["hubert", "wav2vec2"]) -> Callable[..., Embedder]:
    from calibration.embedders.speech import load_speech

    return partial(load_speech, kind)


def _speech_small(kind: Literal["hubert", "wav2vec2"]) -> Callable[..., Embedder]:
    from calibration.embedders.speech import small_random_speech

    return partial(small_random_speech, kind)


def _audiomae() -> Callable[..., Embedder]:
    from calibration.embedders.audiomae import load_audiomae

    return load_audiomae


def _audiomae_small() -> Callable[..., Embedder]:
    from calibration.embedders.audiomae import small_random_audiomae

    return small_random_audiomae


def _generator() -> Callable[..., Embedder]:
    from calibration.embedders.generator import load_generator_embedder

    return load_generator_embedder


def _generator_judge() -> Callable[..., Embedder]:
    from calibration.embedders.generator import load_generator_judge

    return load_generator_judge


# Imported when chosen: most of them need torch.
_MAKERS: dict[str, Callable[[], Callable[..., Embedder]]] = {
    "mel-statistics": _mel_statistics,
    "log-mel": _log_mel,
    "clap": _clap,
    "hubert": partial(_speech, "hubert"),
    "wav2vec2": partial(_speech, "wav2vec2"),
    "audiomae": _audiomae,
    "generator": _generator,
    "generator-judge": _generator_judge,
    "clap-small-random": _clap_small,
    "hubert-small-random": partial(_speech_small, "hubert"),
    "wav2vec2-small-random": partial(_speech_small, "wav2vec2"),
    "audiomae-small-random": _audiomae_small,
}
_WITH_WEIGHTS = {
    "clap": "FOLDER or hub id",
    "hubert": "FOLDER or hub id",
    "wav2vec2": "FOLDER or hub id",
    "audiomae": "FILE, FOLDER or hub id",
    "generator": "FOLDER or default",
    "generator-judge": "FOLDER or default",
}
_NEVER_FETCHED = ("generator", "generator-judge")
