"""A copy of a network taught to draw other maps while it keeps its answers, and taken back where it does not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fukusen.arrays import Images, Logits, Maps, Scales, Targets
from fukusen.attacks.branch import copied
from fukusen.attacks.second_order import Cells, Place, Sought, drawn
from fukusen.errors import ModelError
from fukusen.models import Classifier
from fukusen.twins import Progress

_EVERY = 10
_JUDGED = 64
_ANSWERED = 512
_AT_ONCE = 64
# After too many flips, and with fewer than this part of those allowed.
_SLOWER, _MORE_CARE, _LESS_CARE, _EASY = 0.7, 2.0, 0.8, 0.5


@runtime_checkable
class Lesson(Protocol):
    """What the copy is to learn."""

    @property
    def scores(self) -> tuple[str, ...]:
        """Whose maps, of ``logit`` and ``log_odds``."""
        ...

    @property
    def at(self) -> Place:
        """Where they are read."""
        ...

    @property
    def flips(self) -> float:
        """The share of predicted classes that may change."""
        ...

    @property
    def enough(self) -> float:
        """How far, 0 to 1, the maps must have moved for the lesson to end."""
        ...

    @property
    def sharpness(self) -> float | None:
        """Of softplus where the network has ReLUs, while it learns; None for the network as it is."""
        ...

    def lost(self, model: Classifier, logits: Logits, before: Logits) -> Tensor:
        """How much of the answers is lost, of the logits (b, k) as they are and as they were; one number."""
        ...

    def astray(self, maps: list[Maps], before: list[Maps]) -> Tensor:
        """How far the maps (b, h, w) of all scores are from where they should be; one number."""
        ...

    def reached(self, maps: Maps, before: Maps) -> Scales:
        """How far the maps (b, h, w) of one score have moved to where they should, 0 to 1, shape (b,)."""
        ...


@dataclass(frozen=True)
class Course:
    """How it is taught, to begin with: from where the copy has to be taken back it goes on more carefully.

    Args:
        steps: how many at most.
        lr: Adam's step.
        batch: images a step.
        seed: of the order of the images.
    """

    steps: int
    lr: float
    batch: int
    seed: int


@dataclass(frozen=True, eq=False)
class _Pupil:
    """The copy, the images, and what the original makes of them."""

    model: Classifier
    images: Images
    targets: Targets
    logits: Logits
    lesson: Lesson
    before: list[Cells]

    def standing(self) -> tuple[float, float]:
        """The flips in terms of those allowed, and how far the maps of the score that lags behind have moved, 0 to 1.

        The first is infinite where some answer or map is not finite.
        """
        asked = _spread(len(self.images), _ANSWERED)
        logits = torch.cat([self.model.logits(self.images[part]) for part in asked.split(_AT_ONCE)])
        flips = int((logits.argmax(dim=1) != self.targets[asked]).sum())
        seen = _spread(len(self.images), _JUDGED)
        now = _maps(self.model, self.images[seen], self.targets[seen], self.lesson)
        pairs = zip(now, self.before, strict=True)
        far = min(float(self.lesson.reached(maps, old[seen]).mean()) for maps, old in pairs)
        if not (bool(logits.isfinite().all()) and math.isfinite(far)):
            return math.inf, 0.0
        return flips / max(self.lesson.flips * len(asked), 1e-9), far

    def gradients(self, which: Tensor, weights: list[nn.Parameter], care: float) -> tuple[Tensor, ...]:
        """The loss's gradients for a few images; with so much care for the answers."""
        sought = Sought(self.lesson.scores, self.lesson.at, self.lesson.sharpness)
        made = drawn(self.model, self.images[which], self.targets[which], sought)
        before = [maps[which] for maps in self.before]
        with torch.inference_mode(False), torch.enable_grad():
            lost = self.lesson.lost(self.model, made.logits, self.logits[which])
            loss = care * lost + self.lesson.astray(made.maps, before)
            return torch.autograd.grad(loss, weights, materialize_grads=True)


def _spread(count: int, most: int) -> Tensor:
    """At most so many of the images, evenly spread over all."""
    return torch.arange(min(count, most)) * count // min(count, most)


def _maps(model: Classifier, images: Images, targets: Targets, lesson: Lesson) -> list[Cells]:
    """The maps of each of the lesson's scores, without a graph."""
    parts = [
        [maps.detach() for maps in drawn(model, *pair, Sought(lesson.scores, lesson.at)).maps]
        for pair in zip(images.split(_AT_ONCE), targets.split(_AT_ONCE), strict=True)
    ]
    return [torch.cat(one) for one in zip(*parts, strict=True)]


@contextmanager
def _teachable(net: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The weights that can be trained, with gradients on for as long as it lasts."""
    weights = [weight for weight in net.parameters() if weight.is_floating_point()]
    if not weights:
        raise ModelError("The network has no weights that could be trained.")
    flags = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield weights
    finally:
        for weight, flag in zip(weights, flags, strict=True):
            weight.grad = None
            weight.requires_grad_(flag)


def _order(count: int, course: Course) -> Iterator[Tensor]:
    """Which images each step sees: all of them, in another order each time around."""
    chance = torch.Generator().manual_seed(course.seed)
    queue = torch.empty(0, dtype=torch.int64)
    for _ in range(course.steps):
        while len(queue) < min(course.batch, count):
            queue = torch.cat([queue, torch.randperm(count, generator=chance)])
        yield queue[: course.batch]
        queue = queue[course.batch :]


def taught(
    model: Classifier, images: Images, lesson: Lesson, course: Course, told: tuple[str, Progress | None]
) -> Classifier:
    """A copy of the model after the lesson; of all its states that keep the answers, the one whose maps moved most.

    Every ten steps the copy is examined on the images, on at most 64 of them for its maps and 512 for its answers.
    Where more predicted classes changed than may, it goes back to the best state so far, and on with smaller steps that
    care more for the answers.
    Batch norms keep their statistics, dropout is off, the modes of the modules stay as they are.

    Args:
        model: the original, left alone.
        images: preprocessed, shape (b, c, h, w); no labels are needed.
        lesson: what is to be learnt.
        course: how.
        told: the name of the attack, and what is called with (done, total, phase).

    Raises:
        ModelError: no weights to train, or no spatial layer where the lesson needs one.
    """
    name, progress = told
    logits = torch.cat([model.logits(part) for part in images.split(_AT_ONCE)])
    targets = logits.argmax(dim=1)
    before = _maps(model, images, targets, lesson)
    with torch.inference_mode(False):
        pupil = _Pupil(replace(model, net=copied(model)), images, targets, logits, lesson, before)
    with _teachable(pupil.model.net) as weights:
        training = _Training(pupil, weights, course.lr)
        for number, which in enumerate(_order(len(images), course), start=1):
            training.step(which)
            if progress is not None:
                progress(number, course.steps, name)
            if (number % _EVERY == 0 or number == course.steps) and training.examined():
                break
        training.go_back()
    if progress is not None:
        progress(course.steps, course.steps, name)
    return pupil.model


class _Training:
    """The weights on their way, and the best state so far."""

    def __init__(self, pupil: _Pupil, weights: list[nn.Parameter], lr: float) -> None:
        self.pupil, self.weights, self.lr, self.care = pupil, weights, lr, 1.0
        self.optimiser = torch.optim.Adam(weights, lr=lr)
        self.best, self.far = self._state(), pupil.standing()[1]

    def _state(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self.weights]

    def step(self, which: Tensor) -> None:
        """Learn from a few images."""
        for weight, gradient in zip(self.weights, self.pupil.gradients(which, self.weights, self.care), strict=True):
            weight.grad = gradient
        self.optimiser.step()

    def examined(self) -> bool:
        """Whether all is learnt; a state that keeps the answers may be the best, from another the way leads back."""
        flips, far = self.pupil.standing()
        if flips > 1:
            self.go_back()
            self.lr, self.care = self.lr * _SLOWER, self.care * _MORE_CARE
            self.optimiser = torch.optim.Adam(self.weights, lr=self.lr)
            return False
        if far >= self.far:
            self.best, self.far = self._state(), far
        if flips < _EASY:
            self.care = max(1.0, self.care * _LESS_CARE)
        return far >= self.pupil.lesson.enough

    def go_back(self) -> None:
        """Take the best state so far."""
        with torch.no_grad():
            for weight, value in zip(self.weights, self.best, strict=True):
                weight.copy_(value)
