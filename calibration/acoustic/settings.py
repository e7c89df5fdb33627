"""Sizes, losses and schedule of the acoustic decoder; what C2F-LDM does not publish is an option.

Published (C2F-LDM, section 2.1.2 and the training details): a transformer of 4 + 4 layers and width
768, the 768 voxels with the highest responses, `p_gt` 0.25, AdamW at 1e-6, batches of 8, 30 or 40
epochs. Not published, hence options here and never "the paper's value": heads, feed-forward width,
dropout, how responses of voxels are measured, sum or mean in the losses, which layers of the token
decoder are compared. In one place the paper contradicts itself (`mel_target`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.errors import SettingError

__all__ = ["AcousticSettings", "paper_settings"]

PENALTIES = tuple(float(10.0 ** (k / 2.0)) for k in range(-10, 5))


@dataclass(frozen=True, slots=True)
class AcousticSettings:
    """What an acoustic decoder is and how it is trained; the defaults are for hundreds of windows.

    `steps`, `batch`, `rate`, `warmup`, `average` and `clip` are as in every stage of
    `calibration.training`, which needs torch; these settings do not.
    """

    steps: int = 1_200
    batch: int = 32  # windows in a step
    rate: float = 2e-4  # largest learning rate
    warmup: int = 50  # steps until it is reached
    average: float = 0.99  # decay of the averaged weights
    clip: float = 1.0  # largest norm of a gradient

    method: Literal["transformer", "ridge"] = "transformer"

    # The transformer.
    # What the brain token is made of: features, as in the paper, or what the closed form says of
    # them ("components", out of fold in training; base "ridge").
    brain: Literal["features", "components"] = "features"
    n_features: int = 768  # those with the highest responses make the brain token; 0: all
    width: int = 128
    heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    feedforward: int = 256
    dropout: float = 0.3
    # What its output is added to: nothing (the paper), the mean tokens, or the closed form.
    # On 360 windows of a simulated listener, squared error on 40 other clips over that of the mean
    # tokens, three divisions: .72, .65, .67 on the mean; .78, .69, .73 the closed form alone; .67,
    # .76 on the closed form (two of them): what is left there is too little to learn from.
    base: Literal["none", "mean", "ridge"] = "mean"

    # The closed form.
    rank: int = 64  # components of the tokens of a window
    token_rank: int = 96  # directions kept of the 768 of a token
    penalties: tuple[float, ...] = PENALTIES  # each times the number of windows

    # Training.
    p_gt: float = 0.25  # how often the true embedding is given in place of the decoded one
    condition_weight: float = 1.0
    perceptual_weight: float = 0.0  # features of the token decoder's layers; needs one
    mel_weight: float = 0.0  # what the token decoder makes of the tokens; needs one
    # The paper's text compares with what the token decoder makes of the true tokens ("upper"), its
    # equation 1 with the mel itself ("sound").
    mel_target: Literal["sound", "upper"] = "sound"
    tune_token_decoder: bool = False  # train it along, as the paper does with AudioMAE's
    reduction: Literal["mean", "sum"] = "mean"  # of squares over a window
    feature_noise: float = 0.5  # spread of noise on standardised features, against overfitting

    # Selection on groups that are not trained on.
    held_out: float = 0.15  # share of the groups
    check_every: int = 40  # steps
    patience: int = 8  # checks without a better one, after which training ends

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or not self.rate > 0 or not 0 <= self.average < 1:
            raise SettingError(
                "Training needs at least 1 step, 2 windows a step, a rate above 0 and an average "
                f"from 0 to below 1, got {self.steps}, {self.batch}, {self.rate} and "
                f"{self.average}."
            )
        if self.width % self.heads or min(self.encoder_layers, self.decoder_layers) < 1:
            raise SettingError(
                "An acoustic transformer needs at least one layer on either side and a width that "
                f"its heads divide, got {self.encoder_layers} + {self.decoder_layers} layers and "
                f"{self.width} over {self.heads}."
            )
        if not (0 <= self.p_gt <= 1 and 0 < self.held_out < 1 and 0 <= self.dropout < 1):
            raise SettingError(
                "p_gt lies in 0 to 1, held_out and dropout below 1 (held_out above 0), got "
                f"{self.p_gt}, {self.held_out} and {self.dropout}."
            )
        if min(self.rank, self.token_rank, self.check_every, self.patience) < 1:
            raise SettingError(
                "rank, token_rank, check_every and patience are 1 or more, got "
                f"{self.rank}, {self.token_rank}, {self.check_every} and {self.patience}."
            )
        if self.brain == "components" and self.base != "ridge":
            raise SettingError(
                "The brain token can be made of the closed form's components only where the "
                f"closed form is the base; base is {self.base!r}. Set brain to 'features'."
            )
        if self.n_features < 0 or not self.penalties or min(self.penalties) <= 0:
            raise SettingError(
                "n_features is 0 (all) or more and penalties are above 0, got "
                f"{self.n_features} and {self.penalties}."
            )
        weights = (self.condition_weight, self.perceptual_weight, self.mel_weight)
        if min(*weights, self.feature_noise) < 0 or not any(weights):
            raise SettingError(
                f"Weights of losses are 0 or more, one of them above, got {weights}; feature_noise "
                f"is 0 or more, got {self.feature_noise}."
            )


def paper_settings(*, n_windows: int, epochs: int = 30) -> AcousticSettings:
    """Return C2F-LDM's sizes and schedule, for thousands of windows and a GPU.

    Heads, feed-forward width and dropout are plain choices of ours (8, 3,072, 0.1).

    Parameters
    ----------
    n_windows : int
        That are trained on, for the number of steps.
    epochs : int
        30 for natural sounds and speech, 40 for music.
    """
    return AcousticSettings(
        steps=max(1, epochs * n_windows // 8),
        batch=8,
        rate=1e-6,
        warmup=1,
        average=0.0,
        brain="features",
        n_features=768,
        width=768,
        heads=8,
        encoder_layers=4,
        decoder_layers=4,
        feedforward=3072,
        dropout=0.1,
        base="none",
        p_gt=0.25,
        feature_noise=0.0,
        perceptual_weight=1.0,
        mel_weight=1.0,
        tune_token_decoder=True,
        reduction="sum",
    )
