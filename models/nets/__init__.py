"""Torch modules of the embedded generator: codec, denoiser, vocoder, encoders and samplers."""
