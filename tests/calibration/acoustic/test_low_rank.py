from __future__ import annotations

import numpy as np
import pytest

from calibration.acoustic.low_rank import fit_basis
from models.errors import SettingError


def test_tokens_of_low_rank_come_back_whole() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((40, 5)) @ rng.standard_normal((5, 16 * 32))
    tokens = (tokens + rng.standard_normal(16 * 32)).reshape(40, 16, 32).astype(np.float32)
    basis = fit_basis(tokens, rank=5, token_rank=32)
    np.testing.assert_allclose(basis.decode(basis.encode(tokens)), tokens, atol=2e-3)


def test_with_all_directions_it_is_the_singular_value_decomposition() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((12, 8, 6)).astype(np.float32)
    basis = fit_basis(tokens, rank=4, token_rank=6)
    flat = (tokens - tokens.mean(axis=0)).reshape(12, -1)
    _, _, right = np.linalg.svd(flat, full_matrices=False)
    best = flat @ right[:4].T @ right[:4]
    mine = basis.decode(basis.encode(tokens)).reshape(12, -1) - tokens.mean(axis=0).ravel()
    np.testing.assert_allclose(mine, best, atol=1e-4)


def test_a_rank_beyond_the_windows_is_cut_down() -> None:
    tokens = np.random.default_rng(2).standard_normal((5, 8, 6)).astype(np.float32)
    assert len(fit_basis(tokens, rank=64, token_rank=96).components) == 4


def test_equal_tokens_are_refused() -> None:
    with pytest.raises(SettingError, match="are the same"):
        fit_basis(np.ones((5, 8, 6), np.float32), rank=3, token_rank=3)
