"""A network that can be asked for logits, activations and gradients, and is left as it was found."""

from __future__ import annotations

import copy
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fukusen.arrays import Images, Logits
from fukusen.errors import ModelError
from fukusen.models.counting import went_forward
from fukusen.models.digest import digest_model
from fukusen.models.evaluation import evaluating
from fukusen.models.heads import Head
from fukusen.models.integers import why_integers
from fukusen.models.layers import Layer
from fukusen.models.preprocessing import Preprocess
from fukusen.models.reasons import reason

INPUT = "input"
Reach = Literal["nothing", "layer", "input"]
Edit = Callable[[Tensor], Tensor]
NO_GRADIENT = (
    "No gradient comes back from the network's outputs: it switches gradients off on its way (torch.no_grad, detach), "
    "or goes through something without a derivative. Take that out, or ask only for methods that read its behaviour "
    '(methods=["occlusion"]).'
)
_DOUBLING = threading.RLock()


@dataclass(frozen=True)
class Capture:
    """One forward pass: its logits with their graph, and what was kept on the way.

    Args:
        images: the images; a leaf of the graph when gradients reach the input.
        logits: shape (n, k), attached to the graph; an edit may have made more rows than there are images.
        outputs: what the captured layers returned, in their own layout, attached to the graph.
    """

    images: Images
    logits: Float[Tensor, "n k"]
    outputs: Mapping[Layer, Tensor]


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)} and type {str(output.dtype).removeprefix('torch.')}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {', '.join(repr(key) for key in output) or 'nothing in it'}"
    return f"a {type(output).__name__}"


def unwrapped(output: Any) -> Tensor:
    """The tensor (b, k) in whatever a network returns: itself, ``.logits``, ``["logits"]``, ``["out"]``, or the first.

    Raises:
        ModelError: there is no such tensor.
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits", output.get("out"))
    elif hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, Sequence) and output:
        found = output[0]
    if isinstance(found, Tensor) and found.dim() == 2 and found.is_floating_point() and found.shape[1] > 0:
        return found
    raise ModelError(
        "A classifier must return one row of numbers an image: floats of shape (b, k), alone, first in a tuple, or as "
        f"'logits'. This one returns {_described(output if found is None else found)}. Wrap it in a module that "
        "returns such rows."
    )


def _held(net: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(net.parameters(), net.buffers())


@dataclass(frozen=True)
class _Wanted:
    """What a pass is to keep and to change on its way."""

    layers: tuple[Layer, ...]
    reach: Reach
    edits: Mapping[Layer, Edit]

    @cached_property
    def places(self) -> dict[tuple[str, int], Layer]:
        return {(layer.name, layer.call): layer for layer in (*self.edits, *self.layers)}

    def taken(self, layer: Layer, output: Tensor, kept: dict[Layer, Tensor]) -> Tensor:
        """What goes on from this layer, after what is to be kept has been."""
        if layer in self.edits:
            output = self.edits[layer](output)
        if layer not in self.layers:
            return output
        if output.is_quantized:
            kept[layer] = output.dequantize()
            return output
        if self.reach == "layer" and not output.requires_grad:
            output = output.detach().requires_grad_()
            torch.set_grad_enabled(True)
        kept[layer] = output
        # A copy goes on, so that an operation in place that follows does not change what was kept.
        return output.clone()


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with what is needed to explain it; made by ``fukusen.load`` and ``fukusen.wrap``.

    Args:
        net: the network, never changed.
        head: what its outputs are.
        classes: the class names, one a logit.
        layer: where class activation maps are read; None where the network has no spatial layer.
        input_shape: channels, rows and columns of one preprocessed image.
        preprocess: from a PIL picture to a (c, h, w) tensor; None where only tensors are explained.
        spec: how it was asked for.
        notes: what was assumed on the user's behalf, in sentences.
    """

    net: nn.Module
    head: Head
    classes: tuple[str, ...]
    layer: Layer | None
    input_shape: tuple[int, int, int]
    preprocess: Preprocess | None = None
    spec: str = "wrapped network"
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name weights, code and preprocessing."""
        return digest_model(self.net, self.preprocess)

    @cached_property
    def gradientless(self) -> str:
        """Why there are no gradients of this network, in one sentence with the remedy; empty where there are."""
        return why_integers(self.net)

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return next((value.device for value in _held(self.net)), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the network's weights."""
        return next((value.dtype for value in _held(self.net) if value.is_floating_point()), torch.float32)

    def logits(self, images: Images) -> Logits:
        """Logits of shape (b, k), without a graph."""
        return self.run(images).logits

    def probabilities(self, logits: Logits) -> Logits:
        """Probabilities in float64, shape (b, k); each row sums to one unless the labels are independent."""
        exact = logits.detach().double()
        return exact.sigmoid() if self.head.labels_are_independent else exact.softmax(dim=1)

    def run(
        self,
        images: Images,
        layers: Sequence[Layer] = (),
        reach: Reach = "nothing",
        edits: Mapping[Layer, Edit] | None = None,
    ) -> Capture:
        """One forward pass with our hooks on it, all of which are gone when it returns.

        Args:
            images: preprocessed images, (b, c, h, w).
            layers: whose outputs to keep.
            reach: how far gradients will be asked for: ``nothing``, back to the first of ``layers``, or ``input``.
            edits: functions that replace a layer's output on the way, each given and returning its own layout.

        Raises:
            ModelError: the network returns something else than one row of numbers an image, a layer was not called, or
                gradients will be asked for at the input and there are none.
        """
        wanted = _Wanted(tuple(layers), "nothing" if self.gradientless else reach, edits or {})
        if reach == "input" and self.gradientless:
            raise ModelError(self.gradientless)
        capture = self._passed(images, wanted, with_graph=reach == "input")
        if wanted.reach == "layer" and layers and not capture.logits.requires_grad:
            # A network that switches gradients off around its first part switches them back to what they were before.
            capture = self._passed(images, wanted, with_graph=True)
        if reach == "input" and not capture.logits.requires_grad:
            raise ModelError(NO_GRADIENT)
        return capture

    def _passed(self, images: Images, wanted: _Wanted, *, with_graph: bool) -> Capture:
        kept: dict[Layer, Tensor] = {}
        with evaluating(self.net), torch.inference_mode(False), torch.set_grad_enabled(with_graph):
            values = images.detach().to(self.device, self.dtype)
            if wanted.reach == "input":
                values = values.clone().requires_grad_()
            with self._hooked(kept, wanted):
                # The network may change its input in place; neither the caller's images nor a leaf may be that input.
                outputs = unwrapped(self.net(values.clone()))
            # An edit may fan one image out: what is behind it then runs for each of the rows.
            went_forward(max(len(values), len(outputs)))
            logits = self.head.logits(outputs.float() if outputs.dtype.itemsize < 4 else outputs)
        missed = [str(layer) for layer in wanted.layers if layer not in kept]
        if missed:
            raise ModelError(f"The forward pass did not reach {', '.join(missed)}, where it was to be read.")
        return Capture(values, logits, kept)

    @contextmanager
    def _hooked(self, kept: dict[Layer, Tensor], wanted: _Wanted) -> Iterator[None]:
        """Hooks that act in this thread only and run before the network's own.

        Running first matters: whatever else listens to the layer is then fed from the tensor that gradients are taken
        at, so that nothing it adds to the logits can escape the gradient.
        """
        owner = threading.get_ident()
        calls: Counter[str] = Counter()

        def hook_for(name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
                if threading.get_ident() != owner:
                    return None
                layer = wanted.places.get((name, calls[name]))
                calls[name] += 1
                return None if layer is None or not isinstance(output, Tensor) else wanted.taken(layer, output, kept)

            return hook

        modules = {name: self._module(name) for name, _ in wanted.places}
        handles: list[RemovableHandle] = []
        try:
            for name, module in modules.items():
                handles += [module.register_forward_hook(hook_for(name), prepend=True)]
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _module(self, name: str) -> nn.Module:
        try:
            return self.net.get_submodule(name)
        except AttributeError:
            raise ModelError(f"The network has no layer {name!r}.") from None

    @cached_property
    def _in_double(self) -> Classifier:
        twin = copy.deepcopy(self.net).double()
        parts = (self.head, self.classes, self.layer, self.input_shape, self.preprocess, self.spec, self.notes)
        return Classifier(twin, *parts)

    def in_double(self) -> Classifier:
        """A copy of this classifier in float64; made once and kept.

        Raises:
            ModelError: the network cannot be copied.
        """
        with _DOUBLING:
            try:
                return self._in_double
            except Exception as error:
                raise ModelError(f"The network cannot be copied to float64: {reason(error)}.") from error
