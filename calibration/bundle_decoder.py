"""A fitted decoder as the ONNX file of a bundle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.decoders import LinearDecoder
from calibration.outer import Fit
from export.chains import ChainSpec, CoarseToFineChain, DirectChain, SemanticChain
from export.onnx_linear import linear_onnx, sparse_linear_onnx

__all__ = ["decoder_file", "fitted_decoder"]


def fitted_decoder(fit: Fit, chain: ChainSpec) -> bytes:
    """Return the decoder of a fit as ONNX: sparse where each target has its own few features."""
    decoder = fit.decoder
    indices, values = getattr(decoder, "indices_", None), getattr(decoder, "values_", None)
    if isinstance(decoder, LinearDecoder):
        indices, values = decoder.indices, decoder.values
    if indices is None or values is None or isinstance(chain, DirectChain):
        weights, bias = decoder.weights()
        return decoder_file(weights, bias, fit.centre, chain)
    bias = np.atleast_1d(getattr(decoder, "bias", getattr(decoder, "intercept_", 0.0)))
    n_features = len(fit.mean)
    return decoder_file(values, bias, fit.centre, chain, indices=indices, n_features=n_features)


def decoder_file(
    weights: NDArray[np.floating],
    bias: NDArray[np.floating],
    centre: NDArray[np.float64],
    chain: ChainSpec,
    *,
    indices: NDArray[np.intp] | None = None,
    n_features: int = 0,
) -> bytes:
    """Return a linear decoder as the ONNX file of a chain.

    Parameters
    ----------
    weights : array of shape (n_features, d), or (d, k) with `indices`
    bias : array of shape (d,)
    centre : array of shape (d,)
        Mean of the training targets. Mel frames hold it, and so does an embedding that a generator
        is given; one that only finds the nearest sound does not.
    chain : ChainSpec
    indices : array of shape (d, k), optional
        Features of each target, where each has its own few.
    n_features : int
        In all, with `indices`.
    """
    if isinstance(chain, (SemanticChain, CoarseToFineChain)):
        bias = bias + centre
    if indices is not None:
        return sparse_linear_onnx(indices, weights, bias, n_features=n_features, normalise=True)
    if isinstance(chain, DirectChain):
        shape = (chain.frames_per_window, chain.mel.n_mels)
        return linear_onnx(weights, bias + centre, output="mel", shape=shape)
    return linear_onnx(weights, bias, normalise=True)
