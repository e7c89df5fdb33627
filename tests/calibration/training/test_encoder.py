from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_softmax

from calibration.training.encoder import _contrast, make_vocabulary


def test_words_that_occur_once_are_no_words() -> None:
    captions = ["a slow melody", "a slow, low tone", "tone tone"]
    assert make_vocabulary(captions) == ["a", "slow", "tone"]


def test_the_contrast_is_the_cross_entropy_both_ways() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 6, 8))
    logits = 3.0 * a @ b.T
    alone = np.eye(6)
    shared = alone.copy()
    shared[0, 1] = shared[1, 0] = 1.0  # the same words: no counter-examples of each other
    for same in (alone, shared):
        wanted = same / same.sum(axis=1, keepdims=True)
        expected = [
            -(wanted * log_softmax(each, axis=1)).sum(axis=1).mean() for each in (logits, logits.T)
        ]
        found = _contrast(
            torch.from_numpy(a), torch.from_numpy(b), torch.tensor(3.0), torch.from_numpy(same > 0)
        )
        assert abs(float(found) - 0.5 * sum(expected)) < 1e-5
