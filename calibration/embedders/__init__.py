"""Sounds and texts to vectors: the targets of semantic decoders, behind one protocol."""
