"""Decoders of one contract, and a fitted one made of its numbers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calibration.config import DecoderSettings
from calibration.decoders import (
    LinearDecoder,
    alpha_curve,
    held_out_correlation,
    make_decoder,
    weight_energy,
)
from models.errors import SettingError

_ROIS = {"a": np.arange(10), "b": np.arange(10, 20)}


def _data(seed: int = 0, n: int = 60) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 20)).astype(np.float32)
    w = np.zeros((20, 3))
    w[:5] = rng.standard_normal((5, 3))
    return x, x @ w + 0.3 * rng.standard_normal((n, 3))


@pytest.mark.parametrize("kind", ["ridge", "selected", "roi-ensemble"])
def test_each_kind_fits_predicts_and_tells_its_weights(kind: Any) -> None:
    x, y = _data()
    settings = DecoderSettings(kind=kind, alphas=(0.1, 1.0, 10.0), n_folds=3, n_selected=6)
    decoder = make_decoder(settings, rois=_ROIS).fit(x, y, groups=np.arange(60) // 6)
    weights, bias = decoder.weights()
    np.testing.assert_allclose(decoder.predict(x), x @ weights + bias, rtol=1e-3, atol=1e-4)
    r = held_out_correlation(decoder, y)
    assert r is not None
    assert r > 0.8
    curve = alpha_curve(decoder)
    assert curve is not None
    assert curve.x == (0.1, 1.0, 10.0)
    energy = weight_energy(decoder)
    assert energy.sum() == pytest.approx(1.0)
    assert energy[:5].sum() > 0.8


def test_regions_are_needed_where_regions_decode() -> None:
    with pytest.raises(SettingError, match="label file"):
        make_decoder(DecoderSettings(kind="roi-ensemble"), rois={})


def test_a_sparse_decoder_is_the_dense_one() -> None:
    rng = np.random.default_rng(1)
    indices = np.array([[0, 3, 7], [2, 3, 4]])
    values = rng.standard_normal((2, 3))
    bias = np.array([0.5, -1.0])
    sparse = LinearDecoder(bias=bias, indices=indices, values=values, n_features=9)
    dense, _ = sparse.weights()
    assert dense.shape == (9, 2)
    x = rng.standard_normal((5, 9))
    np.testing.assert_allclose(sparse.predict(x), x @ dense + bias)
    np.testing.assert_allclose(LinearDecoder(bias=bias, dense=dense).predict(x), x @ dense + bias)


def test_a_fitted_decoder_is_not_fitted_again() -> None:
    x, y = _data()
    with pytest.raises(SettingError, match="fitted before"):
        LinearDecoder(bias=np.zeros(3), dense=np.zeros((20, 3))).fit(x, y)


def test_one_penalty_has_no_curve_and_a_constant_target_no_correlation() -> None:
    x, y = _data()
    one = make_decoder(DecoderSettings(kind="ridge", alphas=(1.0,), n_folds=3)).fit(x, y)
    assert alpha_curve(one) is None
    y[:, 1] = 0.0
    several = make_decoder(DecoderSettings(kind="ridge", alphas=(1.0, 2.0), n_folds=3)).fit(x, y)
    assert np.isfinite(held_out_correlation(several, y) or 0.0)
    assert np.isfinite(several.predict(x)).all()
