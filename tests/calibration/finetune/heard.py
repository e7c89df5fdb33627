"""Training windows with latents that follow the tokens, for small and full generators."""

from __future__ import annotations

import numpy as np

from calibration.acoustic.settings import AcousticSettings
from calibration.finetune.windows import BrainWindows, decode_tokens
from models.nets.stretch import PREFIX
from tests.calibration.acoustic.brain import make_windows

__all__ = ["ACOUSTIC", "heard_windows"]

ACOUSTIC = AcousticSettings(
    steps=10,
    batch=16,
    width=48,
    heads=3,
    encoder_layers=1,
    decoder_layers=1,
    feedforward=64,
    dropout=0.0,
    rank=8,
    token_rank=16,
    p_gt=0.0,
)


def heard_windows(
    *, n_clips: int = 16, prefix: int = PREFIX, latent: tuple[int, ...] = (32,), seed: int = 0
) -> BrainWindows:
    made = make_windows(n_clips=n_clips, per_clip=3, steps=2, n_features=20, seed=seed)
    n = len(made.samples)
    rng = np.random.default_rng(seed)
    size = int(np.prod(latent))
    turn = np.random.default_rng(7).standard_normal((768, size)) / 20.0
    steps = made.tokens.reshape(n, 2, 8, 768).mean(2) @ turn  # (n, 2, size)
    sound = np.repeat(steps, 4, axis=1) + 0.1 * rng.standard_normal((n, 8, size))
    before = np.repeat(sound[:, :1], prefix, axis=1)
    latents = np.concatenate([before, sound], axis=1).reshape(n, prefix + 8, *latent)
    windows = BrainWindows(
        samples=made.samples,
        groups=made.samples.clip,
        decoded=made.decoded,
        true=made.true,
        tokens=made.tokens,
        latents=latents.astype(np.float32),
        n_known=rng.integers(0, prefix + 1, n),
        prefix=prefix,
    )
    return decode_tokens(windows, ACOUSTIC)
