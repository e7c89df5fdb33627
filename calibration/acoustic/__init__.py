"""The acoustic decoder of coarse-to-fine decoding: brain features and embedding to tokens."""
