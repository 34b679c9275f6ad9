"""A twin of the model or the image, changed in one stated way, with a promise it is checked against."""

from fukusen.attacks.attack import Attack, Promise, Twin, attacks, verified
from fukusen.attacks.logits import CornerShift, StopGradient

__all__ = ["Attack", "CornerShift", "Promise", "StopGradient", "Twin", "attacks", "verified"]
