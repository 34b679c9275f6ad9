"""Gradients that go back through ReLUs only where they are positive: guided backpropagation, alone and with a CAM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.graph import Node

from fukusen.arrays import Images
from fukusen.methods.cam import GradCam
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import Capture
from fukusen.records import Undefined
from fukusen.scores import Score
from fukusen.tape import Tape

_HIDDEN = ("CompiledFunction", "torch::jit")


def nodes(end: Node | None) -> Iterator[Node]:
    """Every step of the way back from here."""
    waiting, seen = [end], {end}
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        yield node
        for before, _ in node.next_functions:
            if before not in seen:
                seen.add(before)
                waiting.append(before)


def _is_zero(value: Any) -> bool:
    return not value.any() if isinstance(value, Tensor) else value is not None and value == 0


# What cuts its input off below, and where its derivative's step remembers that it did so at zero.
_CUTS = {
    "ReluBackward0": None,
    "HardtanhBackward0": "_saved_min_val",
    "ClampBackward1": "_saved_min",
    "ClampMinBackward0": "_saved_min",
    "ThresholdBackward0": "_saved_threshold",
    "MaximumBackward0": "_saved_other",
}


def _is_relu(node: Node) -> bool:
    """Whether it is a ReLU, a ReLU6 or another function that is zero below zero and linear above."""
    name = node.name()
    if name not in _CUTS:
        return False
    where = _CUTS[name]
    return where is None or _is_zero(getattr(node, where))


@contextmanager
def _guided(relus: Sequence[Node]) -> Iterator[None]:
    """Within it, nothing negative comes back through these steps of one forward pass."""

    def cut(found: tuple[Tensor | None, ...], _above: Any) -> tuple[Tensor | None, ...]:
        return tuple(None if one is None else one.clamp_min(0) for one in found)

    handles = [relu.register_hook(cut) for relu in relus]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Guide:
    """A forward pass with its ReLUs found, and what came back through them for each direction so far."""

    def __init__(self, tape: Tape) -> None:
        self.capture: Capture = tape.capture if tape.at_input else tape.classifier.run(tape.batch.images, (), "input")
        steps = list(nodes(self.capture.logits.grad_fn))
        self.is_hidden = any(node.name().startswith(_HIDDEN) for node in steps)
        self.relus = [node for node in steps if _is_relu(node)]
        self._made: dict[Score, Images] = {}

    def back(self, direction: Score, tape: Tape) -> Images:
        """What comes back to the input, shape (b, c, h, w); one pass, remembered."""
        if direction not in self._made:
            logits, images = self.capture.logits, self.capture.images
            with _guided(self.relus):
                (self._made[direction],) = torch.autograd.grad(
                    logits, images, tape.cotangent(direction), retain_graph=True, materialize_grads=True
                )
        return self._made[direction]


def _guide(tape: Tape, scores: Sequence[Score]) -> list[Images] | Undefined:
    """For each score what comes back to the input, shape (b, c, h, w); proportional scores share one pass."""
    guide = tape.once("guide", lambda: _Guide(tape))
    if guide.is_hidden:
        return Undefined("a part of the network is compiled, so its ReLUs cannot be seen")
    if not guide.relus:
        return Undefined("the network has no ReLU, so there is nothing to guide")
    found: list[Images] = []
    for score in scores:
        direction, scale = tape.factors(score)
        own = guide.back(direction, tape)
        found.append(own if direction == score else own * scale.to(own.dtype)[:, None, None, None])
    return found


@methods.register
@dataclass(frozen=True)
class GuidedBackprop:
    """Guided backpropagation: the gradient at the input with what is negative behind each ReLU cut off on its way back.

    The ReLUs are found in the forward pass itself, whatever module or function they are and however often it is used;
    ReLU6 and clamps at zero count, other activations are differentiated as they are. Summed over the channels.
    Undefined where the network has no ReLU. Source: springenberg2015striving.
    """

    name: ClassVar[str] = "guided_backprop"
    keeps_positive: ClassVar[bool] = True
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "gradient"
    reading: ClassVar[Reading] = "magnitude"
    source: ClassVar[str] = "springenberg2015striving"
    cost: ClassVar[str] = "3 backward passes"
    fits: ClassVar[str] = "networks with ReLUs"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = True

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, in score per unit of preprocessed pixel."""
        found = _guide(tape, scores)
        if isinstance(found, Undefined):
            return [found] * len(scores)
        return [back.sum(dim=1) for back in found]


@methods.register
@dataclass(frozen=True)
class GuidedGradCam:
    """Guided Grad-CAM: guided backpropagation times the Grad-CAM map, its negative part cut off and enlarged to it.

    Enlarged bilinearly, as in the paper; summed over the channels. Undefined where either of the two is.
    Source: selvaraju2017gradcam.
    """

    name: ClassVar[str] = "guided_grad_cam"
    keeps_positive: ClassVar[bool] = True
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "gradient"
    reading: ClassVar[Reading] = "magnitude"
    source: ClassVar[str] = "selvaraju2017gradcam"
    cost: ClassVar[str] = "the passes of guided backprop and of Grad-CAM"
    fits: ClassVar[str] = "networks with ReLUs and a layer with rows and columns"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = True
    reads_layer: ClassVar[bool] = True

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, in the square of the score per unit of pixel."""
        guided = _guide(tape, scores)
        if isinstance(guided, Undefined):
            return [guided] * len(scores)
        pairs = zip(guided, GradCam().maps(tape, scores), strict=True)
        return [cam if isinstance(cam, Undefined) else _product(back, cam) for back, cam in pairs]


def _product(back: Images, cam: Tensor) -> Tensor:
    positive = cam.clamp_min(0)[:, None].to(back.dtype)
    large = torch.nn.functional.interpolate(positive, back.shape[2:], mode="bilinear", align_corners=False)
    return (back * large).sum(dim=1)
