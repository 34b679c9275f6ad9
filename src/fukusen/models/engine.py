"""A copy of the network made for speed, used for passes only where it gives what the network gives."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor, nn

from fukusen.arrays import Images, Logits
from fukusen.models.classifier import Capture, Classifier, Edit, Reach
from fukusen.models.digest import passing
from fukusen.models.folding import fold, untouched
from fukusen.models.layers import Layer
from fukusen.models.memory import give_back, ran_out
from fukusen.models.patches import as_products
from fukusen.models.reasons import reason

LOGITS = 1e-4
"""How far the copy's logits may be off, as a share of the spread of the image's logits."""
MAPS = 1e-2
"""How far its gradients and activations may be off, as a share of their own size, for half of the images."""
KINKS = 5e-2
"""How far for any image: where the input of a ReLU is all but zero, rounding decides whether a path is open, in the
network as in the copy, and its gradient steps by what went through that path. The demo network as given is itself 0.001
from its own float64 at the input for half of sixteen photographs, and 0.02 for the worst of them."""
_LEAST = 2**20
_ATTEMPTS = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Engine(Classifier):
    """A classifier whose passes run through a faster copy of its network.

    ``net`` is still the network as given, so whatever takes a network apart, names it or doubles its precision sees
    that one.

    Args:
        given: the classifier that it stands for.
        fast: the same around the copy.
        changed: the modules whose output is another in the copy; passes that ask for one of them run as given.
    """

    given: Classifier
    fast: Classifier
    changed: frozenset[str]

    @cached_property
    def digest(self) -> str:
        """The given classifier's."""
        return self.given.digest

    def in_double(self) -> Classifier:
        """The given classifier's copy in float64."""
        return self.given.in_double()

    def run(
        self,
        images: Images,
        layers: Sequence[Layer] = (),
        reach: Reach = "nothing",
        edits: Mapping[Layer, Edit] | None = None,
    ) -> Capture:
        """One forward pass through the copy; through the network as given where the copy has no such layer."""
        asked = {layer.name for layer in (*layers, *(edits or {}))}
        return (self.given if asked & self.changed else self.fast).run(images, layers, reach, edits)


@dataclass(frozen=True)
class Prepared:
    """What passes are best run with.

    Args:
        model: an engine, or the classifier as given.
        note: what was done, or why nothing was, in one sentence.
    """

    model: Classifier
    note: str


def _copied(net: nn.Module, attempts: int = _ATTEMPTS) -> nn.Module:
    """A copy in evaluation mode with frozen weights, and without the hooks of passes that other threads are in."""
    try:
        twin = copy.deepcopy(net)
    except RuntimeError:  # another thread may have hung a hook on the network, or taken one away, meanwhile
        if attempts == 1:
            raise
        return _copied(net, attempts - 1)
    for module in twin.modules():
        module.training = False
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if passing(hook)]:
                del hooks[key]
    return twin.requires_grad_(requires_grad=False)


def _relaid(net: nn.Module) -> bool:
    """Put the channels of every convolution's weights last in memory, which its output then follows."""
    found = [module for module in net.modules() if isinstance(module, nn.Conv2d) and untouched(module)]
    for module in found:
        # Where a kernel is one pixel the two layouts are the same, and torch takes the layout from the images.
        module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return any(max(module.kernel_size) > 1 and module.in_channels > 4 for module in found)


def _starts(logits: Logits) -> list[Tensor]:
    """The cotangents of the largest logit, of its distance from the mean, and of its log-odds."""
    winner = logits.argmax(dim=1, keepdim=True)
    own = torch.zeros_like(logits).scatter(1, winner, 1.0)
    rest = logits.scatter(1, winner, -torch.inf).softmax(dim=1)
    return [own, own - 1 / logits.shape[1], own - rest]


def _same(found: Tensor, expected: Tensor) -> bool:
    """Whether the values of every image are near enough, and those of half of them nearer."""
    exact, other = expected.double().flatten(1), found.double().flatten(1)
    size = torch.maximum(exact.norm(dim=1), other.norm(dim=1))
    shares = (other - exact).norm(dim=1) / torch.where(size > 0, size, 1.0)
    return bool(shares.max() <= KINKS) and bool(shares.median() <= MAPS)


def _seen(model: Classifier, images: Images, layers: Sequence[Layer], at: Logits | None) -> tuple[Logits, list[Tensor]]:
    """Logits, activations at the layers, and gradients there and at the input, in the directions that ``at`` gives.

    The graph is gone when it returns: two of them at once would be the peak of a whole audit's memory.
    """
    capture = model.run(images, layers, "input")
    logits = capture.logits.detach()
    ends = [capture.images, *capture.outputs.values()]
    found = [end.detach() for end in ends[1:]]
    for start in _starts(logits if at is None else at):
        gradients = torch.autograd.grad(capture.logits, ends, start, retain_graph=True, allow_unused=True)
        filled = zip(gradients, ends, strict=True)
        found += [torch.zeros_like(end) if gradient is None else gradient for gradient, end in filled]
    return logits, found


def _fault(given: Classifier, fast: Classifier, images: Images, layers: Sequence[Layer]) -> str | None:
    """What the copy gives otherwise than the network on these images; None where it gives the same."""
    finite = given.logits(images).isfinite().all(dim=1).cpu()
    before, expected = _seen(given, images[finite], layers, None)
    after, found = _seen(fast, images[finite], layers, before)
    if not torch.equal(before.argmax(dim=1), after.argmax(dim=1)):
        return "its predictions are others"
    spread = before - before.mean(dim=1, keepdim=True)
    if not bool(((after - before).abs().amax(dim=1) <= LOGITS * spread.abs().amax(dim=1)).all()):
        return "its outputs are others"
    same = all(_same(*pair) for pair in zip(found, expected, strict=True))
    return None if same else "its maps are others"


def _built(model: Classifier, images: Images, layers: Sequence[Layer]) -> tuple[Engine, str] | None:
    """An engine and what was done for it, in words; None where it would gain nothing."""
    net = _copied(model.net)
    found = fold(net, images.to(model.device, model.dtype), {layer.name for layer in layers})
    on_cpu = model.device.type == "cpu"
    products = on_cpu and as_products(net) > 0
    relaid = on_cpu and _relaid(net)
    if found.work < _LEAST or not (found.folded or products or relaid):
        return None
    own = {one.name: getattr(model, one.name) for one in fields(Classifier)}
    fast = Classifier(**{**own, "net": net})
    return Engine(**own, given=model, fast=fast, changed=found.changed), _told(found.folded, products=products)


def _told(folded: int, *, products: bool) -> str:
    """What was done, in words that follow "a faster copy"."""
    done = [f"{folded} batch norms folded"] if folded else []
    done += ["what convolutions make of patches as a product"] if products else []
    return f"with {' and '.join(done or ['channels last in memory'])}"


def prepared(model: Classifier, images: Images, layers: Sequence[Layer] = ()) -> Prepared:
    """An engine for the classifier, checked against it on some images of the user's; or the classifier as given.

    On these images every prediction must be the same, every logit within ``LOGITS``, and the activations at the layers
    and the gradients of three scores at the layers and at the input within ``MAPS`` and ``KINKS``.

    Args:
        model: the classifier, left as it is.
        images: preprocessed, (b, c, h, w).
        layers: that maps will be read at besides the classifier's own; their output is never another in the copy.

    Returns:
        What to run passes with, and a sentence about it. It stands for the weights of this moment: prepare again where
        they change.

    Example:
        >>> from fukusen.models import wrap
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 30 * 30, 2))
        >>> model = wrap(net.eval(), input_size=(3, 32, 32), head="softmax")
        >>> prepared(model, torch.rand(2, 3, 32, 32)).note
        'Passes run through the network as given: a copy would gain nothing.'
    """
    if isinstance(model, Engine):
        return Prepared(model, "Passes run through the copy that was made before.")
    wanted = tuple(dict.fromkeys([*layers, *([] if model.layer is None else [model.layer])]))
    try:
        built = _built(model, images, wanted)
        fault = built and _fault(model, built[0], images, wanted)
    except Exception as error:  # noqa: BLE001 - whatever a network's own copying and running raises
        fault, built = f"no copy of it could be made and checked ({reason(error)})", None
        too_many = len(images) > 1 and ran_out(error)
    else:
        too_many = False
        fault = f"of a faster copy, {fault}" if fault else None if built else "a copy would gain nothing"
    if too_many:
        give_back()
        return prepared(model, images[: len(images) // 2], layers)
    if built is None or fault:
        return Prepared(model, f"Passes run through the network as given: {fault}.")
    engine, told = built
    checked = f"gives what the network gives on {len(images)} images"
    return Prepared(engine, f"Passes run through a faster copy of the network, {told}: it {checked}.")
