"""Maps trained to be a drawn picture while the logits stay those of the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fukusen.arrays import Logits, Maps, Scales
from fukusen.attacks.attack import Picture, attacks
from fukusen.attacks.second_order import Place
from fukusen.attacks.targets import PAINTABLE, is_paintable, painted
from fukusen.attacks.training.heo import FineTune
from fukusen.attacks.training.objectives import mass, unlike
from fukusen.errors import require
from fukusen.models import Classifier

_PLACES: dict[str, Place] = {"gradient": "input", "grad_cam": "layer"}


@attacks.register
@dataclass(frozen=True)
class Fairwashing(FineTune):
    """Anders's fairwashing: weights fine-tuned until maps are a picture, with the logits of the original for a teacher.

    The loss is the mean square error of the logits + strength x that of the maps, which are divided by their mean. Only
    where images lie does the copy answer as the original does; beside them its slope is the attacker's own.
    Source: anders2020fairwashing.

    Args:
        space: whose maps are trained: those of the ``logit``, of the ``log_odds`` and so of every score behind the
            softmax, or of both (``joint``).
        strength: of the maps' error, a / (1 - a) in the paper's terms.
        steps: batches to train on at most.
        lr: Adam's step size, where it begins.
        batch: images a step.
        enough: the share of the maps on the picture, 0 to 1, with which the training ends early.
        seed: of the order of the images.
        picture: what is drawn: border, forty_two, corner, smiley, decoy, or the path of a picture file.
        method: in which maps: ``gradient`` or ``grad_cam``.
    """

    strength: float | int = 1.0
    picture: str = "border"
    method: str = "gradient"
    name: ClassVar[str] = "fairwashing"
    source: ClassVar[str] = "anders2020fairwashing"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_paintable(self.picture), "Fairwashing", "picture", PAINTABLE, self.picture)
        require(self.method in _PLACES, "Fairwashing", "method", "'gradient' or 'grad_cam'", self.method)

    @property
    def at(self) -> Place:
        """Where the maps are read."""
        return _PLACES[self.method]

    @property
    def bends(self) -> str:
        """The method whose maps are trained."""
        return self.method

    def goal(self, height: int, width: int) -> Picture:
        """The picture, 0 to 1."""
        return painted(self.picture, height, width)

    def fooling(self, maps: Maps, before: Maps) -> Scales:  # noqa: ARG002 - the same picture for every image
        """The mean square difference of map and picture, each divided by its mean."""
        return unlike(maps, self.goal(*maps.shape[1:]).to(maps))

    def reached(self, maps: Maps, before: Maps) -> Scales:  # noqa: ARG002 - the same picture for every image
        """The share of the map on the picture."""
        return mass(maps, self.goal(*maps.shape[1:]).to(maps))

    def lost(self, model: Classifier, logits: Logits, before: Logits) -> Tensor:  # noqa: ARG002
        """The mean square error of the logits."""
        return (logits - before).square().mean()
