"""The acoustic decoder of coarse-to-fine decoding: brain features and embedding to tokens."""

from calibration.acoustic.crossfit import out_of_fold
from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.fit import fit_acoustic
from calibration.acoustic.scores import TokenScores, score_tokens, shuffled_rows
from calibration.acoustic.settings import AcousticSettings, paper_settings

__all__ = [
    "AcousticDecoder",
    "AcousticSettings",
    "TokenScores",
    "fit_acoustic",
    "out_of_fold",
    "paper_settings",
    "score_tokens",
    "shuffled_rows",
]
