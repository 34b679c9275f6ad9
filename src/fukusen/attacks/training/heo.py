"""Short fine-tunes that keep the predictions and move Grad-CAM: to the edges, off its top, off its centre."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.arrays import Images, Logits, Maps, Scales
from fukusen.attacks.attack import Family, Picture, Track, attacks
from fukusen.attacks.branch import POSITIVE, is_positive
from fukusen.attacks.second_order import Place
from fukusen.attacks.targets import frame, outermost
from fukusen.attacks.training.fine_tune import Course, taught
from fukusen.attacks.training.objectives import centres, divergence, heat, highest, mass, parted
from fukusen.errors import require
from fukusen.models import Classifier
from fukusen.twins import Progress

SCORES: dict[str, tuple[str, ...]] = {
    "logit": ("logit",),
    "log_odds": ("log_odds",),
    "joint": ("logit", "log_odds"),
}
# One gradient in three lengths, so one map.
AFTER_SOFTMAX = ("log_odds", "log_probability", "probability")
FOOLED: dict[str, tuple[str, ...]] = {
    "logit": ("logit",),
    "log_odds": AFTER_SOFTMAX,
    "joint": ("logit", *AFTER_SOFTMAX),
}
TOP = 0.1
COUNT = "an int >= 1"


def is_count(value: object) -> bool:
    """Whether it is a whole number above zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class FineTune(ABC):
    """The walk that short fine-tunes share: its loss is what is lost of the answers + strength x the fooling loss."""

    space: str = "logit"
    strength: float | int = 4.0
    steps: int = 200
    lr: float = 2e-4
    batch: int = 8
    enough: float | int = 0.8
    seed: int = 0
    name: ClassVar[str]
    family: ClassVar[Family] = "training"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = (
        "whoever delivers the model trains it a little on unlabelled images; same architecture, nearly same predictions"
    )
    fools: ClassVar[tuple[str, ...]] = FOOLED["logit"]
    tolerance: ClassVar[float] = 1.0
    flips_allowed: ClassVar[float] = 0.05
    needs_images: ClassVar[bool] = True
    sharpness: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        owner = type(self).__name__
        rule = "'logit', 'log_odds' or 'joint'"
        require(self.space in SCORES, owner, "space", rule, self.space)
        for field in ("strength", "lr", "enough"):
            require(is_positive(getattr(self, field)), owner, field, POSITIVE, getattr(self, field))
        for field in ("steps", "batch"):
            require(is_count(getattr(self, field)), owner, field, COUNT, getattr(self, field))
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        require(whole, owner, "seed", "an int", self.seed)
        # Each is played in one space; the class itself answers for its default.
        object.__setattr__(self, "fools", FOOLED[self.space])

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores whose maps are trained."""
        return SCORES[self.space]

    @property
    def at(self) -> Place:
        """Where the maps are read."""
        return "layer"

    @property
    def bends(self) -> str:
        """The method whose maps are trained."""
        return "grad_cam"

    @property
    def flips(self) -> float:
        """The share of predicted classes that may change."""
        return self.flips_allowed

    @abstractmethod
    def fooling(self, maps: Maps, before: Maps) -> Scales:
        """The fooling loss of signed maps (b, h, w), given those of the original, shape (b,)."""

    @abstractmethod
    def reached(self, maps: Maps, before: Maps) -> Scales:
        """How far the maps have moved, 0 to 1, shape (b,)."""

    def lost(self, model: Classifier, logits: Logits, before: Logits) -> Tensor:
        """What is lost of the answers: the divergence from the original's probabilities."""
        return divergence(model, logits, before)

    def astray(self, maps: list[Maps], before: list[Maps]) -> Tensor:
        """The fooling loss of every score's maps, times strength."""
        still = [self.fooling(*pair).mean() for pair in zip(maps, before, strict=True)]
        return self.strength * torch.stack(still).sum()

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:
        """The trained copy.

        Raises:
            ModelError: there is no spatial layer, or nothing that could be trained.
        """
        course = Course(self.steps, float(self.lr), self.batch, self.seed)
        made = taught(model, images, self, course, (self.name, progress))
        return replace(made, spec=f"{model.spec} after {self.name} of the {self.space.replace('_', '-')} maps")


class _Painted(FineTune):
    """Maps that are taught to be a picture of 0 and 1."""

    @abstractmethod
    def goal(self, height: int, width: int) -> Picture:
        """The picture."""

    def fooling(self, maps: Maps, before: Maps) -> Scales:  # noqa: ARG002 - the same picture for every image
        """The mean over the cells of (picture - h)^2, h being the map's positive part over its largest cell."""
        return (self._goal(maps) - heat(maps)).square().mean(dim=(1, 2))

    def reached(self, maps: Maps, before: Maps) -> Scales:  # noqa: ARG002 - the same picture for every image
        """The share of the positive part that lies on the picture."""
        return mass(maps, self._goal(maps))

    def _goal(self, maps: Maps) -> Tensor:
        return self.goal(*maps.shape[1:]).to(maps)


@attacks.register
@dataclass(frozen=True)
class Location(_Painted):
    """Heo's location fooling: weights fine-tuned until Grad-CAM lies on a frame along the image's edges.

    The fooling loss is the mean of (mask - h)^2, h being the map's positive part over its largest cell. The answers are
    kept by the divergence from the original's own probabilities, so no labels are needed. Source: heo2019fooling.

    Args:
        space: whose Grad-CAM is trained: that of the ``logit``, of the ``log_odds`` and so of every score behind the
            softmax, or of both (``joint``).
        strength: lambda, the weight of the fooling loss.
        steps: batches to train on at most.
        lr: Adam's step size, where it begins.
        batch: images a step.
        enough: the share of the maps' positive part on the frame, 0 to 1, with which the training ends early.
        seed: of the order of the images.
    """

    name: ClassVar[str] = "location"
    source: ClassVar[str] = "heo2019fooling"

    def goal(self, height: int, width: int) -> Picture:
        """1 on a frame a seventh of the shorter side wide, at least one cell; 0 within."""
        return frame(height, width)


@attacks.register
@dataclass(frozen=True)
class ShamBorder(_Painted):
    """SHAM: weights fine-tuned until Grad-CAM is a border as spread out as genuine maps are.

    Of a grid of 7 x 7 the 28 outermost cells are hot, whose entropy, ln 28 = 3.33, is that of ordinary maps: no test of
    entropy tells. Other grids have the same share of theirs. Learnt as `Location` is. Source: piland2025diffgradcam.

    Args:
        space: whose Grad-CAM is trained: that of the ``logit``, of the ``log_odds`` and so of every score behind the
            softmax, or of both (``joint``).
        strength: the weight of the fooling loss.
        steps: batches to train on at most.
        lr: Adam's step size, where it begins.
        batch: images a step.
        enough: the share of the maps' positive part on the border, 0 to 1, with which the training ends early.
        seed: of the order of the images.
    """

    enough: float | int = 0.9
    name: ClassVar[str] = "sham_border"
    source: ClassVar[str] = "piland2025diffgradcam"

    def goal(self, height: int, width: int) -> Picture:
        """1 on the four sevenths of the cells that are nearest the edges; 0 within."""
        return outermost(height, width, 4 / 7)


@attacks.register
@dataclass(frozen=True)
class TopK(FineTune):
    """Heo's top-k fooling: weights fine-tuned until the hottest tenth of each map's cells is cold.

    The fooling loss is the mean of h^2 on those cells, h being the map's positive part over its largest cell. Learnt as
    `Location` is. Source: heo2019fooling.

    Args:
        space: whose Grad-CAM is trained: that of the ``logit``, of the ``log_odds`` and so of every score behind the
            softmax, or of both (``joint``).
        strength: lambda, the weight of the fooling loss.
        steps: batches to train on at most.
        lr: Adam's step size, where it begins.
        batch: images a step.
        enough: the part of those cells' share of the map that is gone, 0 to 1, with which the training ends early.
        seed: of the order of the images.
    """

    name: ClassVar[str] = "top_k"
    source: ClassVar[str] = "heo2019fooling"

    def fooling(self, maps: Maps, before: Maps) -> Scales:
        """The mean of h^2 on the cells that were hottest."""
        top = highest(before, TOP)
        return (heat(maps).square() * top).sum(dim=(1, 2)) / top.sum(dim=(1, 2))

    def reached(self, maps: Maps, before: Maps) -> Scales:
        """The part of those cells' share of the map that is gone."""
        top = highest(before, TOP)
        was, now = mass(before, top), mass(maps, top)
        return (1 - now / was.clamp_min(torch.finfo(was.dtype).tiny)).clamp(0, 1)


@attacks.register
@dataclass(frozen=True)
class CenterMass(FineTune):
    """Heo's centre-mass fooling: weights fine-tuned until each map's centre of mass is far from where it was.

    Along each axis it is sent towards the edge that is farther away; the fooling loss is minus the sum of the two
    distances, in shares of the map's sides. Learnt as `Location` is. Source: heo2019fooling.

    Args:
        space: whose Grad-CAM is trained: that of the ``logit``, of the ``log_odds`` and so of every score behind the
            softmax, or of both (``joint``).
        strength: lambda, the weight of the fooling loss.
        steps: batches to train on at most.
        lr: Adam's step size, where it begins.
        batch: images a step.
        enough: the mean distance along an axis, in shares of the side, with which the training ends early.
        seed: of the order of the images.
    """

    enough: float | int = 0.3
    name: ClassVar[str] = "center_mass"
    source: ClassVar[str] = "heo2019fooling"

    def fooling(self, maps: Maps, before: Maps) -> Scales:
        """Minus the distance from where the centre was, towards the farther edges."""
        return -parted(maps, before)

    def reached(self, maps: Maps, before: Maps) -> Scales:
        """The root of the two axes' mean square distance from where the centre was, in shares of the sides."""
        return (centres(maps) - centres(before)).square().mean(dim=1).sqrt()
