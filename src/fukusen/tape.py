"""One forward pass; logits, activations and gradients on demand, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar, cast

import torch

from fukusen.arrays import Activations, Batch, Cotangents, Gradients, Logits, Scales, Targets
from fukusen.errors import CallError, ModelError, require
from fukusen.models import INPUT, Capture, Classifier, Layer
from fukusen.models.classifier import NO_GRADIENT
from fukusen.scores import Score, cotangent_of, factors_of, value_of

Place = Layer | str
T = TypeVar("T")


class Tape:
    """One batch's forward pass, rewound as often as asked and never twice the same way.

    Nothing runs until something is asked for. Scores whose cotangents are proportional share one backward pass; one
    that reaches the input brings back every layer's gradient on its way.

    Args:
        classifier: the model.
        batch: the images, and the classes to explain (default: the predicted ones).
        layers: the layers whose activations and gradients will be asked for; default: the classifier's own.
        at_input: whether gradients at the input will be asked for. Without them a backward pass stops at the first
            layer, which costs next to nothing.

    Example:
        >>> from torch import nn
        >>> from fukusen.models import wrap
        >>> from fukusen.scores import LogOdds
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> model = wrap(net, input_size=(3, 8, 8), head="softmax")
        >>> tape = Tape(model, Batch(("a",), torch.rand(1, 3, 8, 8)))
        >>> tape.gradient(LogOdds(), at=model.layer).shape
        torch.Size([1, 4, 6, 6])
    """

    def __init__(
        self, classifier: Classifier, batch: Batch, *, layers: Sequence[Layer] | None = None, at_input: bool = True
    ) -> None:
        shape = tuple(batch.images.shape[1:])
        require(
            shape == classifier.input_shape,
            "Tape",
            "batch",
            f"images of shape {classifier.input_shape}",
            shape,
        )
        own = () if classifier.layer is None else (classifier.layer,)
        self.classifier = classifier
        self.batch = batch
        self.layers: tuple[Layer, ...] = own if layers is None else tuple(layers)
        self.at_input = at_input
        self._rewound: dict[Score, dict[Place, Gradients]] = {}
        self._made: dict[str, Any] = {}

    @cached_property
    def _capture(self) -> Capture:
        reach = "input" if self.at_input else "layer" if self.layers else "nothing"
        return self.classifier.run(self.batch.images, self.layers, reach)  # type: ignore[arg-type]

    @property
    def capture(self) -> Capture:
        """The one forward pass with its graph, for methods that go back through it by rules of their own."""
        return self._capture

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What several methods make of the forward pass by rules of their own, made when first asked for.

        Args:
            name: of what is made.
            make: makes it; called at most once for a tape.
        """
        if name not in self._made:
            self._made[name] = make()
        return cast(T, self._made[name])

    def read_at(self, layer: Layer) -> Tape:
        """The same forward pass and the same gradients, with maps read at another of its layers.

        Raises:
            CallError: this tape does not keep that layer.
        """
        self._known(layer)
        other = Tape(self.classifier, self.batch, layers=self.layers, at_input=self.at_input)
        other.classifier = replace(self.classifier, layer=layer)
        other._capture, other._rewound, other._made = self._capture, self._rewound, self._made
        return other

    def explaining(self, targets: Targets) -> Tape:
        """The same forward pass with other classes explained, at its layers only.

        Args:
            targets: one class an image, shape (b,).
        """
        batch = Batch(self.batch.items, self.batch.images, targets)
        other = Tape(self.classifier, batch, layers=self.layers, at_input=False)
        other._capture = self._capture
        return other

    @property
    def logits(self) -> Logits:
        """The logits of the one forward pass, shape (b, k), without a graph."""
        return self._capture.logits.detach()

    @cached_property
    def targets(self) -> Targets:
        """The class that is explained for each image, shape (b,)."""
        if self.batch.targets is None:
            return self.logits.argmax(dim=1)
        targets = self.batch.targets.to(self.logits.device)
        count = self.logits.shape[1]
        if targets.shape != (self.logits.shape[0],) or bool(((targets < 0) | (targets >= count)).any()):
            raise CallError(
                f"targets must be {self.logits.shape[0]} class indices from 0 to {count - 1}, one an image. "
                f"Got {targets.tolist()} instead."
            )
        return targets

    @property
    def places(self) -> list[Place]:
        """Where this tape has gradients: its layers, and the input where it reaches that."""
        return [*self.layers, *([INPUT] if self.at_input else [])]

    def activations(self, layer: Layer) -> Activations:
        """What the layer put out in the forward pass, shape (b, c, h, w), without a graph."""
        self._known(layer)
        return layer.channels_first(self._capture.outputs[layer].detach())

    def _known(self, place: Place) -> None:
        if place == INPUT and self.at_input:
            return
        if place not in self.layers:
            raise CallError(f"This tape keeps no gradient at {str(place)!r}: name it when the tape is made.")

    def cotangent(self, score: Score) -> Cotangents:
        """The score's cotangent on the logits, shape (b, k): on those that compete for the target.

        Raises:
            ModelError: the network has no gradients for it to be carried back by.
        """
        if self.classifier.gradientless:
            raise ModelError(self.classifier.gradientless)
        return cotangent_of(score, self.classifier.head, self.logits, self.targets)

    def value(self, score: Score) -> Scales:
        """The score of each image, shape (b,), float64."""
        return value_of(score, self.classifier.head, self.logits, self.targets)

    def factors(self, score: Score) -> tuple[Score, Scales]:
        """The direction whose backward pass serves this score, and the scale (b,) that makes it the score's own."""
        return factors_of(score, self.classifier.head, self.logits, self.targets)

    def gradient(self, score: Score, at: Place) -> Gradients:
        """The gradient of the score at a layer (b, c, h, w) or at the input.

        Args:
            score: what is differentiated.
            at: a layer of this tape, or ``INPUT``.

        Returns:
            Shape (b, c, h, w), in score per unit of activation (or of preprocessed pixel).

        Raises:
            CallError: the tape does not reach there.
            ModelError: the network has no gradients.
        """
        self._known(at)
        direction, scale = self.factors(score)
        gradient = self.direction_gradient(direction, at)
        if direction == score:
            return gradient
        return gradient * scale.to(gradient.dtype)[:, None, None, None]

    def direction_gradient(self, direction: Score, at: Place) -> Gradients:
        """The gradient of a score that is its own direction; one backward pass, remembered."""
        self._known(at)
        if direction not in self._rewound:
            self._rewound[direction] = self._rewind(direction)
        return self._rewound[direction][at]

    def pulled_back(self, cotangents: Cotangents, at: Layer) -> Gradients:
        """What a cotangent (b, k) that is no score's own becomes at a layer, (b, c, h, w); one pass, not remembered."""
        self._known(at)
        end = self._graph.outputs[at]
        (found,) = torch.autograd.grad(self._graph.logits, end, cotangents, retain_graph=True, allow_unused=True)
        return at.channels_first(torch.zeros_like(end) if found is None else found)

    @property
    def _graph(self) -> Capture:
        """The pass, where there is a way back through it."""
        if not self._capture.logits.requires_grad:
            raise ModelError(self.classifier.gradientless or NO_GRADIENT)
        return self._capture

    def _rewind(self, direction: Score) -> dict[Place, Gradients]:
        capture = self._graph
        places = self.places
        ends = [capture.images if place == INPUT else capture.outputs[cast(Layer, place)] for place in places]
        found = torch.autograd.grad(
            capture.logits, ends, self.cotangent(direction), retain_graph=True, allow_unused=True
        )
        gradients: dict[Place, Gradients] = {}
        for place, end, gradient in zip(places, ends, found, strict=True):
            values = torch.zeros_like(end) if gradient is None else gradient
            gradients[place] = values if isinstance(place, str) else place.channels_first(values)
        return gradients
