"""A twin of the model or the image, changed in one stated way, with a promise it is checked against."""

from fukusen.attacks.attack import Aiming, Attack, ImageAttack, ModelAttack, attacks, goal_of, needs_images, verified
from fukusen.attacks.channels import CancellingPair, ChannelRescale
from fukusen.attacks.drawing import ConstantMap, DrawnTarget
from fukusen.attacks.exporting import export_twin
from fukusen.attacks.fairwashing import Fairwashing
from fukusen.attacks.inputs import DombrowskiTarget, GhorbaniCenter, GhorbaniTopK
from fukusen.attacks.logits import CornerShift, InputShift, MaskedContrast
from fukusen.attacks.scaffold import SlackScaffold
from fukusen.attacks.training import CenterMass, Location, ShamBorder, TopK
from fukusen.attacks.triggers import TriggeredShift
from fukusen.attacks.values import CustomBackward, Sawtooth, StopGradient
from fukusen.attacks.weights import HiddenUnit, RowShift

__all__ = [
    "Aiming",
    "Attack",
    "CancellingPair",
    "CenterMass",
    "ChannelRescale",
    "ConstantMap",
    "CornerShift",
    "CustomBackward",
    "DombrowskiTarget",
    "DrawnTarget",
    "Fairwashing",
    "GhorbaniCenter",
    "GhorbaniTopK",
    "HiddenUnit",
    "ImageAttack",
    "InputShift",
    "Location",
    "MaskedContrast",
    "ModelAttack",
    "RowShift",
    "Sawtooth",
    "ShamBorder",
    "SlackScaffold",
    "StopGradient",
    "TopK",
    "TriggeredShift",
    "attacks",
    "export_twin",
    "goal_of",
    "needs_images",
    "verified",
]
