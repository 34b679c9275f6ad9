"""Whether maps change when what the model has learnt is taken away: on copies with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor, nn

from fukusen.agreement import Cosine, compare
from fukusen.arrays import Batch, Maps
from fukusen.attacks.branch import copied
from fukusen.checks.check import Sight, checks
from fukusen.checks.dependence import NO_CAM, linear_rows
from fukusen.checks.shift import last_linear
from fukusen.errors import ModelError
from fukusen.methods import Method
from fukusen.models import Classifier
from fukusen.models.memory import ran_out
from fukusen.records import Measurement, Scope, Undefined, Value
from fukusen.scores import Score
from fukusen.tape import Tape

LAST = "last_layer"
ALL = "all_layers"
NO_HEAD = Undefined("no linear layer with one row a class was found at the end of the network")
NOT_FOLLOWED = Undefined("a copy of the network cannot be given weights of its own, so no weights can be taken away")


@checks.register
@dataclass(frozen=True)
class Randomisation:
    """How alike a signed map is to that of a copy whose weights are random: their cosine, per image, method and score.

    The last linear layer is drawn anew, and in a second copy all layers; each of them is looked at with the last layer
    drawn and with its negative, and the mean of both is taken: a map that is made of that layer's weights turns around
    with it. 1 is a map that does not depend on what the model has learnt. Source: adebayo2018sanity.

    Args:
        seed: of the draw.
    """

    seed: int = 0
    name: ClassVar[str] = "randomisation"
    title: ClassVar[str] = "Heatmaps depend on what the model has learnt"
    source: ClassVar[str] = "adebayo2018sanity"
    meaning: ClassVar[str] = (
        "cosine between the maps of the model and of copies with random weights; 1 is a map that does not depend on "
        "what was learnt, 0 one that has nothing to do with the random one"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True
    on_sample: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({NO_CAM.reason, NOT_FOLLOWED.reason})

    def applies(self, classifier: Classifier) -> Undefined | None:
        """Only to models with a linear layer at their end."""
        return NO_HEAD if last_linear(classifier) is None else None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One mean cosine (-1 to 1) for each image, class activation map that is linear in its gradient, and depth.

        Undefined when: a map is zero everywhere or not finite, or the network cannot be copied.
        """
        tape = sight.tape
        if tape is None:
            return []
        rows = list(linear_rows(sight))
        if not rows:
            return [Measurement(self.name, NO_CAM, item) for item in tape.batch.items]
        found = []
        for against in (LAST, ALL):
            tapes = list(self._tapes(tape, against))
            for method, score in rows:
                for item, value in zip(tape.batch.items, _likeness(method, score, tape, tapes), strict=True):
                    found.append(Measurement(self.name, value, item, method.name, score.name, against))
        return found

    def _tapes(self, tape: Tape, against: str) -> Iterator[Tape]:
        """The same images and classes through a copy with random weights, and with the last layer's negative."""
        model, head = tape.classifier, last_linear(tape.classifier)
        if head is None:
            return
        batch = Batch(tape.batch.items, tape.batch.images, tape.targets)
        own = {one.name: getattr(model, one.name) for one in fields(Classifier)}
        for sign in (1.0, -1.0):
            try:
                net = copied(model)
                self._draw(net, head[0], sign, everything=against == ALL)
                changed = Tape(Classifier(**{**own, "net": net}), batch, layers=tape.layers, at_input=False)
                differs = not _same(changed.logits, tape.logits)
            except (ModelError, AttributeError, RuntimeError, TypeError) as error:
                if ran_out(error):
                    raise
                return  # weights that cannot be written, or closures: such a copy calls the layers of the original
            if differs:
                yield changed

    def _draw(self, net: nn.Module, head: str, sign: float, *, everything: bool) -> None:
        """Normal numbers of each weight's own spread in its place; biases of the last layer vanish."""
        last = net.get_submodule(head)
        chance = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for value in net.parameters() if everything else ():
                if value.dim() > 1 and value.is_floating_point():
                    value.copy_(_drawn(value, chance))
            for name, value in last.named_parameters(recurse=False):
                value.copy_(sign * _drawn(value, chance) if name == "weight" else torch.zeros_like(value))


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two sets of logits tell classes apart in the same way."""
    first, second = (logits.double() - logits.double().mean(dim=1, keepdim=True) for logits in (one, other))
    return torch.allclose(first, second, rtol=1e-4, atol=1e-6 * float(second.abs().max()))


def _drawn(value: Tensor, chance: torch.Generator) -> Tensor:
    spread = value.detach().double().std(correction=0).cpu()
    drawn: Tensor = torch.randn(value.shape, generator=chance, dtype=torch.float64) * spread
    return drawn.to(value)


def _likeness(method: Method, score: Score, tape: Tape, tapes: list[Tape]) -> list[Value]:
    """The mean of the cosines with the maps of both copies."""
    if len(tapes) < 2:
        return [NOT_FOLLOWED] * len(tape.batch.items)
    own, first, second = (_map(method, score, one) for one in (tape, *tapes))
    pairs = zip(compare(Cosine(), own, first), compare(Cosine(), own, second), strict=True)
    return [_mean(one, other) for one, other in pairs]


def _map(method: Method, score: Score, tape: Tape) -> Maps:
    (found,) = method.maps(tape, [score])
    if isinstance(found, Undefined):
        raise ModelError(f"A copy of the network has no {method.name} map: {found.reason}.")
    return found.detach()


def _mean(one: Value, other: Value) -> Value:
    if isinstance(one, Undefined) or isinstance(other, Undefined):
        return one if isinstance(one, Undefined) else other
    return (one + other) / 2
