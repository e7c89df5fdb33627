"""Sounds and texts to vectors: the targets of semantic decoders, behind one protocol."""

from calibration.embedders.choice import make_embedder

__all__ = ["make_embedder"]
