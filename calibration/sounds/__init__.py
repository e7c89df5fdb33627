"""Sounds with known factors and captions, made or read, and kept on disk for training."""
