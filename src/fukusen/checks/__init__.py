"""What can be measured besides agreement: of gradients, of the heatmaps in themselves, and of behaviour."""

from fukusen.checks.added import AddedShift
from fukusen.checks.awareness import PerturbationAwareness
from fukusen.checks.channels import CancellingChannels
from fukusen.checks.check import Check, Sight, checks
from fukusen.checks.contradiction import ScoreDisagreement, TrackContradiction
from fukusen.checks.dependence import ClassSpecificity, InputDependence
from fukusen.checks.faithfulness import Faithfulness
from fukusen.checks.graph import GraphScan
from fukusen.checks.layers import LayerConsistency
from fukusen.checks.placement import Placement, mass_inside, points_inside
from fukusen.checks.randomisation import Randomisation
from fukusen.checks.shift import HeadMeanRow, ShiftInMap, ShiftShare
from fukusen.checks.spread import Dominance
from fukusen.checks.stability import Stability
from fukusen.checks.truth import GradientTruth

__all__ = [
    "AddedShift",
    "CancellingChannels",
    "Check",
    "ClassSpecificity",
    "Dominance",
    "Faithfulness",
    "GradientTruth",
    "GraphScan",
    "HeadMeanRow",
    "InputDependence",
    "LayerConsistency",
    "PerturbationAwareness",
    "Placement",
    "Randomisation",
    "ScoreDisagreement",
    "ShiftInMap",
    "ShiftShare",
    "Sight",
    "Stability",
    "TrackContradiction",
    "checks",
    "mass_inside",
    "points_inside",
]
