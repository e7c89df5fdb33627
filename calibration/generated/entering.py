"""How acoustic tokens enter a full-size checkpoint: pooled to 8, or as the 512 of 10.24 s.

What is decoded from a brain, and stands in a bundle, is what enters. A decoder that was tuned along
with a checkpoint decodes the tokens of the stretch; it leaves with the way in behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.decoder import AcousticDecoder, AcousticEngine
from export.onnx_linear import check_onnx
from models.errors import SettingError
from models.stretch import TOKEN_DIM, TOKENS_PER_STEP

__all__ = ["POOL", "WHOLE", "EnteringTokens", "entered"]

WHOLE = 64  # steps of tokens in 10.24 s
POOL = 8  # steps that become one token
_ROWS = 16  # windows at a time: the 512 tokens of one are 1.6 MB

Tokens = NDArray[np.float32]


class EnteringTokens:
    """What a checkpoint takes, of the tokens of a stretch.

    Parameters
    ----------
    family : {"audioldm2", "audioldm2-speech"}
    pooling, fill
        As the checkpoint was tuned; see `calibration.finetune.full.enter_tokens`.
    """

    def __init__(
        self,
        family: str,
        *,
        pooling: Literal["mean", "mean-max"],
        fill: Literal["last", "zeros"],
    ) -> None:
        self._pooled = family == "audioldm2"
        self._pooling, self._fill = pooling, fill

    @property
    def shape(self) -> tuple[int, int]:
        """Of what enters: (8 or 512, 768)."""
        steps = WHOLE // POOL if self._pooled else WHOLE * TOKENS_PER_STEP
        return steps, TOKEN_DIM

    def __call__(self, tokens: Tokens) -> Tokens:
        """Return (n, 8 or 512, 768) of tokens (n, 8 steps, 768)."""
        import torch

        from calibration.finetune.full import enter_tokens

        made = enter_tokens(
            torch.from_numpy(np.ascontiguousarray(tokens)),
            pooled=self._pooled,
            pooling=self._pooling,
            fill=self._fill,
        )
        return np.asarray(made.numpy(), np.float32)

    def mean(self, tokens: Tokens) -> Tokens:
        """Return the mean, (8 or 512, 768), of what enters of the tokens of many windows."""
        total = np.zeros(self.shape)
        for first in range(0, len(tokens), _ROWS):
            total += self(tokens[first : first + _ROWS]).sum(axis=0, dtype=np.float64)
        return np.asarray(total / max(1, len(tokens)), np.float32)

    def behind(self, data: bytes) -> bytes:
        """Return an acoustic decoder's ONNX file with the way into the checkpoint behind it.

        Parameters
        ----------
        data : bytes
            Its output is "tokens", (1, 8 steps, 768).

        Returns
        -------
        data : bytes
            Its output is "tokens", (1, 8 or 512, 768).

        Raises
        ------
        SettingError
            If onnx is missing, or the file's output is another one.
        """
        check_onnx()
        from onnx import checker, helper, load_from_string, numpy_helper

        model: Any = load_from_string(data)
        graph = model.graph
        output = graph.output[0]
        sizes = [d.dim_value for d in output.type.tensor_type.shape.dim]
        if len(graph.output) != 1 or output.name != "tokens" or sizes[2:] != [TOKEN_DIM]:
            raise SettingError(
                f"Expected an acoustic decoder with the output tokens (1, n, {TOKEN_DIM}), got "
                f"{output.name} {tuple(sizes)}."
            )
        for node in graph.node:  # what it gives is no longer the end
            for names in (node.input, node.output):
                names[:] = ["entering.from" if name == "tokens" else name for name in names]
        n_steps = sizes[1] // TOKENS_PER_STEP
        zeros = self._fill == "zeros"
        last = n_steps if zeros else n_steps - 1
        constants: dict[str, NDArray[Any]] = {
            "entering.steps": np.array([1, n_steps, TOKENS_PER_STEP * TOKEN_DIM], np.int64),
            "entering.order": np.minimum(np.arange(WHOLE), last),
            "entering.groups": np.array([1, self.shape[0], -1, TOKEN_DIM], np.int64),
            "entering.within": np.array([2], np.int64),
        }
        ends = "entering.mean" if self._maximum else "tokens"
        nodes = [helper.make_node("Reshape", ["entering.from", "entering.steps"], ["entering.cut"])]
        source = "entering.cut"
        if zeros:  # one step of nothing stands for all that are missing
            nothing = np.zeros((1, 1, TOKENS_PER_STEP * TOKEN_DIM), np.float32)
            constants["entering.nothing"] = nothing
            names = [source, "entering.nothing"]
            source = "entering.filled"
            nodes.append(helper.make_node("Concat", names, [source], axis=1))
        within = ["entering.grouped", "entering.within"]
        nodes += [
            helper.make_node("Gather", [source, "entering.order"], ["entering.whole"], axis=1),
            helper.make_node("Reshape", ["entering.whole", "entering.groups"], within[:1]),
            helper.make_node("ReduceMean", within, [ends], keepdims=0),
        ]
        if self._maximum:
            constants["entering.half"] = np.array([0.5], np.float32)
            nodes += [
                helper.make_node("ReduceMax", within, ["entering.most"], keepdims=0),
                helper.make_node("Add", [ends, "entering.most"], ["entering.both"]),
                helper.make_node("Mul", ["entering.both", "entering.half"], ["tokens"]),
            ]
        graph.node.extend(nodes)
        graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
        output.type.tensor_type.shape.dim[1].dim_value = self.shape[0]
        checker.check_model(model)
        made: bytes = model.SerializeToString(deterministic=True)
        return made

    @property
    def _maximum(self) -> bool:
        return self._pooled and self._pooling == "mean-max"


@dataclass(frozen=True, slots=True, eq=False)
class _EnteringEngine:
    """A decoder of the tokens of a stretch, with the way into a checkpoint behind it."""

    engine: AcousticEngine
    entering: EnteringTokens

    def predict(self, features: NDArray[Any], embeddings: NDArray[Any]) -> Tokens:
        """Return tokens (n, 8 or 512, 768)."""
        return self.entering(self.engine.predict(features, embeddings))

    def onnx(self) -> bytes:
        """Return both as the bytes of one ONNX file."""
        return self.entering.behind(self.engine.onnx())


def entered(decoder: AcousticDecoder, entering: EnteringTokens, tokens: Tokens) -> AcousticDecoder:
    """Return a decoder of what enters a checkpoint, of a decoder of the tokens of a stretch.

    Parameters
    ----------
    decoder : AcousticDecoder
    entering : EnteringTokens
    tokens : array of shape (n, 8 steps, 768)
        That it was fitted on.
    """
    return replace(
        decoder,
        engine=_EnteringEngine(decoder.engine, entering),
        shape=entering.shape,
        mean=entering.mean(tokens),
    )
