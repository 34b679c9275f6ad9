"""What can be measured besides agreement: shift share, head rows, gradient truth, contradictions."""

from fukusen.checks.added import AddedShift
from fukusen.checks.check import Check, Sight, checks
from fukusen.checks.contradiction import ScoreDisagreement, TrackContradiction
from fukusen.checks.shift import HeadMeanRow, ShiftShare
from fukusen.checks.truth import GradientTruth

__all__ = [
    "AddedShift",
    "Check",
    "GradientTruth",
    "HeadMeanRow",
    "ScoreDisagreement",
    "ShiftShare",
    "Sight",
    "TrackContradiction",
    "checks",
]
