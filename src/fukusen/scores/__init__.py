"""Which number about the class is explained, as a cotangent on the logits, with its shift leak."""

from fukusen.scores.around_softmax import CenteredLogit, Logit, LogOdds, LogProbability, Probability
from fukusen.scores.contrast import Contrast, MaxContrast
from fukusen.scores.formulas import PEER_TARGETS, ByFormula, PeerTarget
from fukusen.scores.score import (
    Factors,
    Score,
    centred,
    cotangent_of,
    factors_of,
    leak_of,
    others,
    scores,
    shift_leak,
    value_of,
    zero_sum,
)

__all__ = [
    "PEER_TARGETS",
    "ByFormula",
    "CenteredLogit",
    "Contrast",
    "Factors",
    "LogOdds",
    "LogProbability",
    "Logit",
    "MaxContrast",
    "PeerTarget",
    "Probability",
    "Score",
    "centred",
    "cotangent_of",
    "factors_of",
    "leak_of",
    "others",
    "scores",
    "shift_leak",
    "value_of",
    "zero_sum",
]
