"""Images changed so little that nobody sees it, with the same predicted class and another heatmap."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fukusen.arrays import Images, Maps, Scales, Targets
from fukusen.attacks.attack import Family, Picture, Track, attacks
from fukusen.attacks.branch import POSITIVE, is_positive
from fukusen.attacks.pixels import pixels_of
from fukusen.attacks.second_order import Drawn, Place, Sought, drawn, spatial
from fukusen.attacks.targets import PAINTABLE, is_paintable, painted
from fukusen.attacks.training.heo import COUNT, FOOLED, is_count
from fukusen.attacks.training.objectives import centres, highest, mass, parted, unlike
from fukusen.errors import require
from fukusen.models import Classifier
from fukusen.twins import Progress

PLACES: dict[str, Place] = {"gradient": "input", "grad_cam": "layer"}
_AT_ONCE = 4
_EVERY = 5
_SHARPNESS = (10.0, 100.0)
# A pixel can go so many times from one end of its budget to the other.
_CROSSINGS = 2


@dataclass(frozen=True)
class InputAttack(ABC):
    """The walk that attacks on images share: steps by the sign of the gradient, no farther than the budget."""

    budget: float | int = 8.0
    score: str = "logit"
    method: str = "gradient"
    steps: int = 30
    seed: int = 0
    name: ClassVar[str]
    family: ClassVar[Family] = "inputs"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = "whoever supplies the images and has the model's weights; the model is not touched"
    fools: ClassVar[tuple[str, ...]] = FOOLED["joint"]
    tolerance: ClassVar[float] = 1.0
    flips_allowed: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        owner = type(self).__name__
        require(is_positive(self.budget), owner, "budget", POSITIVE, self.budget)
        require(self.score in ("logit", "log_odds"), owner, "score", "'logit' or 'log_odds'", self.score)
        require(self.method in PLACES, owner, "method", "'gradient' or 'grad_cam'", self.method)
        require(is_count(self.steps), owner, "steps", COUNT, self.steps)
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        require(whole, owner, "seed", "an int", self.seed)

    @abstractmethod
    def distance(self, now: Maps, before: Maps) -> Scales:
        """How far each map (b, h, w) is from where it is wanted, shape (b,)."""

    def cost(self, made: Drawn, start: Drawn) -> Scales:
        """What the steps make small, shape (b,)."""
        return self.distance(made.maps[0], start.maps[0])

    def altered(self, model: Classifier, images: Images, targets: Targets, progress: Progress | None = None) -> Images:
        """Images with the same predicted class whose maps are nearest to what is wanted; at worst the originals.

        Args:
            model: the model, left alone.
            images: preprocessed, shape (b, c, h, w).
            targets: the predicted classes, shape (b,).
            progress: called with (done, total, phase).

        Raises:
            ModelError: there is no spatial layer, and Grad-CAM is to be moved.
        """
        if self.method == "grad_cam":
            spatial(model)
        images = images.to(model.device, model.dtype)
        total = -(-len(images) // _AT_ONCE) * self.steps
        chance = torch.Generator().manual_seed(self.seed)
        found = []
        for number, pair in enumerate(zip(images.split(_AT_ONCE), targets.split(_AT_ONCE), strict=True)):
            walk = _Walk(self, model, *pair, chance)
            for step in range(self.steps):
                walk.step(step / self.steps)
                if (step + 1) % _EVERY == 0 or step + 1 == self.steps:
                    walk.examine()
                if progress is not None:
                    progress(number * self.steps + step + 1, total, self.name)
            found.append(walk.best)
        return torch.cat(found)


class _Walk:
    """A few images on their way."""

    def __init__(
        self, attack: InputAttack, model: Classifier, images: Images, targets: Targets, chance: torch.Generator
    ) -> None:
        self.attack, self.model, self.originals, self.targets = attack, model, images, targets
        self.pixels = pixels_of(model, images)
        self.start = self._seen(images)
        self.best = images.clone()
        self.least = attack.distance(self.start.maps[0], self.start.maps[0])
        self.pace = torch.full((len(images), 1, 1, 1), 2 * _CROSSINGS * attack.budget / attack.steps).to(images)
        nudge = torch.rand(images.shape, generator=chance).to(images) - 0.5
        self.now = self._held(images + nudge * self.pixels.level)

    def _sought(self, sharpness: float | None = None) -> Sought:
        return Sought((self.attack.score,), PLACES[self.attack.method], sharpness)

    def _seen(self, images: Images) -> Drawn:
        made = drawn(self.model, images, self.targets, self._sought())
        return replace(made, logits=made.logits.detach(), maps=[maps.detach() for maps in made.maps])

    def _held(self, images: Images) -> Images:
        return self.pixels.within(images, self.originals, self.attack.budget)

    def step(self, done: float) -> None:
        """One level or so further, by a network whose kinks are rounded off, the less the more is done."""
        first, last = _SHARPNESS
        made = drawn(self.model, self.now, self.targets, self._sought(first * (last / first) ** done))
        with torch.inference_mode(False), torch.enable_grad():
            cost = self.attack.cost(made, self.start).sum()
            (slope,) = torch.autograd.grad(cost, made.images, materialize_grads=True)
        self.now = self._held(self.now - self.pace * self.pixels.level * slope.nan_to_num(0.0).sign())

    def examine(self) -> None:
        """By the network as it is: nearer images of the same class are kept, those of another go back."""
        made = self._seen(self.now)
        same = made.logits.argmax(dim=1) == self.targets
        distance = self.attack.distance(made.maps[0], self.start.maps[0])
        nearer = same & (distance < self.least)
        self.least = torch.where(nearer, distance, self.least)
        self.best = torch.where(nearer[:, None, None, None], self.now, self.best)
        self.now = torch.where(same[:, None, None, None], self.now, self.best)
        self.pace = torch.where(same[:, None, None, None], self.pace, self.pace / 2)


@attacks.register
@dataclass(frozen=True)
class GhorbaniTopK(InputAttack):
    """Ghorbani's top-k attack: the image's hottest pixels grow cold, and the predicted class stays.

    Signed steps on the share of the map that lies on what were its highest cells, through the network with softplus for
    its ReLUs; the result is chosen by the network as it is. Source: ghorbani2019fragility.

    Args:
        budget: how far any pixel may move, in levels of 255; the model's preprocessing says what that is in its units,
            and where there is none the range of the images.
        score: whose map is moved, ``logit`` or ``log_odds``.
        method: which map: ``gradient`` or ``grad_cam``.
        steps: how many.
        seed: of the nudge with which it begins.
        share: of the cells that count as highest, more than 0 and less than 1.
    """

    share: float = 0.1
    name: ClassVar[str] = "ghorbani_top_k"
    source: ClassVar[str] = "ghorbani2019fragility"

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = "a share above 0 and below 1"
        require(isinstance(self.share, float) and 0 < self.share < 1, "GhorbaniTopK", "share", rule, self.share)

    def distance(self, now: Maps, before: Maps) -> Scales:
        """The share of the map that lies on what were its highest cells, 0 to 1."""
        return mass(now, highest(before, self.share))


@attacks.register
@dataclass(frozen=True)
class GhorbaniCenter(InputAttack):
    """Ghorbani's centre attack: the map's centre of mass moves away, and the predicted class stays.

    Along each axis it is sent towards the edge that is farther away. Walked as `GhorbaniTopK` is.
    Source: ghorbani2019fragility.

    Args:
        budget: how far any pixel may move, in levels of 255; the model's preprocessing says what that is in its units,
            and where there is none the range of the images.
        score: whose map is moved, ``logit`` or ``log_odds``.
        method: which map: ``gradient`` or ``grad_cam``.
        steps: how many.
        seed: of the nudge with which it begins.
    """

    name: ClassVar[str] = "ghorbani_center"
    source: ClassVar[str] = "ghorbani2019fragility"

    def distance(self, now: Maps, before: Maps) -> Scales:
        """Minus the distance of the two centres, in shares of the sides."""
        return -(centres(now) - centres(before)).square().sum(dim=1).sqrt()

    def cost(self, made: Drawn, start: Drawn) -> Scales:
        """Minus how far the centre went towards the farther edges."""
        return -parted(made.maps[0], start.maps[0])


@attacks.register
@dataclass(frozen=True)
class DombrowskiTarget(InputAttack):
    """Dombrowski's attack: the map becomes a picture, and the probabilities stay near.

    Signed steps on the mean of (h - picture)^2, both with mean 1, + keep x the squared change of the probabilities,
    through the network with softplus for its ReLUs, sharper as it goes. Source: dombrowski2019geometry.

    Args:
        budget: how far any pixel may move, in levels of 255; the model's preprocessing says what that is in its units,
            and where there is none the range of the images.
        score: whose map is moved, ``logit`` or ``log_odds``.
        method: which map: ``gradient`` or ``grad_cam``.
        steps: how many.
        seed: of the nudge with which it begins.
        picture: what is drawn: border, forty_two, corner, smiley, decoy, or the path of a picture file.
        keep: gamma, how much a change of the probabilities weighs.
    """

    picture: str = "border"
    keep: float | int = 10.0
    name: ClassVar[str] = "dombrowski_target"
    source: ClassVar[str] = "dombrowski2019geometry"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_paintable(self.picture), "DombrowskiTarget", "picture", PAINTABLE, self.picture)
        require(is_positive(self.keep), "DombrowskiTarget", "keep", POSITIVE, self.keep)

    def goal(self, height: int, width: int) -> Picture:
        """The picture, 0 to 1."""
        return painted(self.picture, height, width)

    def distance(self, now: Maps, before: Maps) -> Scales:  # noqa: ARG002 - the same picture for every image
        """The mean square difference of map and picture, each divided by its mean."""
        return unlike(now, self.goal(*now.shape[1:]).to(now))

    def cost(self, made: Drawn, start: Drawn) -> Scales:
        """The distance, and what the probabilities change."""
        change = made.logits.softmax(dim=1) - start.logits.softmax(dim=1)
        return self.distance(made.maps[0], start.maps[0]) + self.keep * change.square().sum(dim=1)
