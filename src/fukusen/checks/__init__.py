"""What can be measured besides agreement: shift share, head rows, gradient truth, contradictions, places."""

from fukusen.checks.added import AddedShift
from fukusen.checks.check import Check, Sight, checks
from fukusen.checks.contradiction import ScoreDisagreement, TrackContradiction
from fukusen.checks.dependence import ClassSpecificity, InputDependence
from fukusen.checks.layers import LayerConsistency
from fukusen.checks.placement import Placement, mass_inside, points_inside
from fukusen.checks.randomisation import Randomisation
from fukusen.checks.shift import HeadMeanRow, ShiftShare
from fukusen.checks.spread import Dominance
from fukusen.checks.truth import GradientTruth

__all__ = [
    "AddedShift",
    "Check",
    "ClassSpecificity",
    "Dominance",
    "GradientTruth",
    "HeadMeanRow",
    "InputDependence",
    "LayerConsistency",
    "Placement",
    "Randomisation",
    "ScoreDisagreement",
    "ShiftShare",
    "Sight",
    "TrackContradiction",
    "checks",
    "mass_inside",
    "points_inside",
]
