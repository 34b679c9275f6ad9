"""One image's log-odds as a function of a layer's output or of its pixels, in float64 where that can be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from fukusen.arrays import Images, Targets
from fukusen.errors import ModelError
from fukusen.models import Capture, Classifier, Layer
from fukusen.models.classifier import Edit, Reach
from fukusen.models.memory import ran_out
from fukusen.scores import LogOdds, cotangent_of, value_of
from fukusen.tape import Tape

_SAME = 1e-3
_ENTRIES_AT_ONCE = 2**23
# Whether a network takes more rows behind a layer than in front of it; asked once for all of its images.
_FANNING: WeakKeyDictionary[Classifier, dict[Layer, bool]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Probe:
    """One image and the class that is explained, ready to be looked at from close by.

    Args:
        model: the classifier, or its copy in float64.
        image: shape (1, c, h, w), in the model's precision.
        target: the class, shape (1,).
        is_double: whether the model is the float64 copy.
    """

    model: Classifier
    image: Images
    target: Targets
    is_double: bool

    def log_odds(self, logits: Tensor) -> Tensor:
        """The log-odds of the target for each row of logits, float64."""
        return value_of(LogOdds(), self.model.head, logits, self.target.expand(len(logits)))

    def activation(self, layer: Layer) -> Tensor:
        """What the layer puts out for the image, (c, h, w)."""
        capture = self.model.run(self.image, [layer])
        return layer.channels_first(capture.outputs[layer])[0]

    def at(self, images: Images) -> Tensor:
        """The log-odds of other images, shape (n,)."""
        return torch.cat([self.log_odds(self.model.logits(part)) for part in images.split(8)])

    def slopes_at(self, image: Images) -> Tensor:
        """The log-odds' gradient at the pixels of another image (1, c, h, w), shape (c, h, w)."""
        capture = self.model.run(image, reach="input")
        start = cotangent_of(LogOdds(), self.model.head, capture.logits.detach(), self.target)
        (gradient,) = torch.autograd.grad(capture.logits, [capture.images], start)
        return gradient[0]

    def moved(self, layer: Layer, moves: Tensor) -> Tensor:
        """The log-odds after each of the moves (n, c, h, w) is added to the layer's output, shape (n,)."""
        size = max(1, _ENTRIES_AT_ONCE // moves[0].numel())
        return torch.cat([self.log_odds(self._run(layer, part).logits) for part in moves.split(size)])

    def slopes(self, layer: Layer, moves: Tensor) -> Tensor:
        """The log-odds' gradient at the layer after each of the moves, shape (n, c, h, w)."""
        capture = self._run(layer, moves, "layer")
        targets = self.target.expand(len(moves))
        start = cotangent_of(LogOdds(), self.model.head, capture.logits.detach(), targets)
        (gradient,) = torch.autograd.grad(capture.logits, [capture.outputs[layer]], start)
        return layer.channels_first(gradient)

    def _run(self, layer: Layer, moves: Tensor, reach: Reach = "nothing") -> Capture:
        """The network with all moves at once behind the layer, and the one image in front of it.

        A network that looks past the layer may not stand so many rows there; then the image is repeated instead.
        """

        def edit(output: Tensor) -> Tensor:
            return layer.replaced(output, layer.channels_first(output) + moves)

        edits: Mapping[Layer, Edit] = {layer: edit}
        keep = [layer] if reach == "layer" else []
        if not self._fans_out(layer):
            return self.model.run(self.image.expand(len(moves), -1, -1, -1), keep, reach, edits)
        return self.model.run(self.image, keep, reach, edits)

    def _fans_out(self, layer: Layer) -> bool:
        def twice(output: Tensor) -> Tensor:
            return torch.cat([output, output])

        known = _FANNING.setdefault(self.model, {})
        if layer not in known:
            plain = self.model.logits(self.image)
            try:
                fanned = self.model.run(self.image, edits={layer: twice}).logits
                known[layer] = fanned.shape[0] == 2 and torch.allclose(
                    fanned, plain.expand(2, -1), rtol=1e-5, atol=1e-6
                )
            except (RuntimeError, ModelError, ValueError, IndexError) as error:
                if ran_out(error):
                    raise
                known[layer] = False
        return known[layer]


def probe_of(classifier: Classifier, tape: Tape, number: int) -> Probe:
    """A probe for one image of a tape.

    The float64 copy is used where it can be made and gives the original's logits; a network that is wired together by
    closures, or that casts to single precision inside, is probed as it is.
    """
    image, target = tape.batch.images[number : number + 1], tape.targets[number : number + 1]
    double = _faithful_double(classifier, tape, number)
    if double is None:
        return Probe(classifier, image.to(classifier.device, classifier.dtype), target, is_double=False)
    return Probe(double, image.to(classifier.device).double(), target, is_double=True)


def _faithful_double(classifier: Classifier, tape: Tape, number: int) -> Classifier | None:
    try:
        double = classifier.in_double()
        exact = double.logits(tape.batch.images[number : number + 1])
    except (ModelError, RuntimeError, TypeError) as error:
        if ran_out(error):
            raise
        return None
    near = tape.logits[number].double()
    same = torch.allclose(exact[0], near, rtol=_SAME, atol=_SAME * float((near - near.mean()).abs().max() + 1e-9))
    return double if exact.dtype == torch.float64 and same else None
