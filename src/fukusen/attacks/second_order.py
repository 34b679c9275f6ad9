"""Maps with a graph: how heatmaps themselves answer to weights and to pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fukusen.arrays import Images, Logits, Scales, Targets
from fukusen.errors import ModelError
from fukusen.methods.interception import Function, Intercepted, Rule, functions
from fukusen.models import Classifier, Layer
from fukusen.models.attention import OpenAttention

Place = Literal["layer", "input"]
Cells = Float[Tensor, "b rows columns"]
"""Maps beside images, whose rows and columns are others."""

NO_LAYER = "The network has no layer with rows and columns, so there is no Grad-CAM to be redrawn."


@dataclass(frozen=True, eq=False)
class Drawn:
    """A forward pass with maps that can themselves be differentiated.

    Args:
        images: a leaf of the graph, shape (b, c, h, w).
        logits: shape (b, k), with their graph.
        maps: signed, one (b, h, w) for each score, with their graph.
    """

    images: Images
    logits: Logits
    maps: list[Cells]


def score_values(model: Classifier, logits: Logits, targets: Targets, score: str) -> Scales:
    """The logit, or the log-odds, of each image's target with its graph, shape (b,).

    Args:
        model: whose logits they are.
        logits: shape (b, k), with their graph.
        targets: the classes, shape (b,).
        score: ``logit`` or ``log_odds``.
    """
    values, places = model.head.readout(logits, targets)
    column = places[:, None]
    own: Tensor = values.gather(1, column)[:, 0]
    return own if score == "logit" else own - values.scatter(1, column, -torch.inf).logsumexp(dim=1)


@dataclass(frozen=True)
class Sought:
    """Which maps are drawn.

    Args:
        scores: of ``logit`` and ``log_odds``.
        at: ``layer`` for Grad-CAM, signed; ``input`` for the gradient's magnitude summed over the channels.
        sharpness: of softplus in the place of ReLUs, see `softened`; None for the network as it is.
    """

    scores: tuple[str, ...]
    at: Place = "layer"
    sharpness: float | None = None


def drawn(model: Classifier, images: Images, targets: Targets, sought: Sought) -> Drawn:
    """Maps of each score with their graph: Grad-CAM at the model's layer, or the gradient at the input.

    Args:
        model: the model; what its graph reaches, weights or images, can be differentiated a second time.
        images: preprocessed, shape (b, c, h, w).
        targets: the classes to explain, shape (b,).
        sought: which maps.

    Raises:
        ModelError: the model has no spatial layer, and Grad-CAM was asked for.
    """
    layers = () if sought.at == "input" else (spatial(model),)
    with torch.inference_mode(False), torch.enable_grad():
        # Fused attention has no second derivative.
        with OpenAttention(), softened(sought.sharpness):
            capture = model.run(images, layers, reach="input")
        place = capture.outputs[layers[0]] if layers else capture.images
        found = []
        for score in sought.scores:
            total = score_values(model, capture.logits, targets, score).sum()
            (gradient,) = torch.autograd.grad(total, place, create_graph=True, materialize_grads=True)
            if layers:
                cells, slopes = (layers[0].channels_first(one) for one in (place, gradient))
                found.append(torch.einsum("bchw,bc->bhw", cells, slopes.mean(dim=(2, 3))))
            else:
                found.append(gradient.abs().sum(dim=1))
    return Drawn(capture.images, capture.logits, found)


def spatial(model: Classifier) -> Layer:
    """The layer where the model's Grad-CAM is read.

    Raises:
        ModelError: there is none.
    """
    if model.layer is None:
        raise ModelError(NO_LAYER)
    return model.layer


def _soft(value: Tensor, sharpness: float) -> Tensor:
    rounded: Tensor = nn.functional.softplus(value, beta=sharpness)
    return rounded


def _rounded(sharpness: float) -> dict[Function, Rule]:
    """For each function with a kink, itself with the kink rounded off."""

    def relu(_func: Function, args: tuple[Any, ...], _more: dict[str, Any]) -> Tensor:
        return _soft(args[0], sharpness)

    def relu6(_func: Function, args: tuple[Any, ...], _more: dict[str, Any]) -> Tensor:
        return _soft(args[0], sharpness) - _soft(args[0] - 6, sharpness)

    def leaky(_func: Function, args: tuple[Any, ...], more: dict[str, Any]) -> Tensor:
        slope = args[1] if len(args) > 1 else more.get("negative_slope", 0.01)
        sloping: Tensor = slope * args[0] + (1 - slope) * _soft(args[0], sharpness)
        return sloping

    def between(_func: Function, args: tuple[Any, ...], more: dict[str, Any]) -> Tensor:
        low = args[1] if len(args) > 1 else more.get("min", more.get("min_val"))
        high = args[2] if len(args) > 2 else more.get("max", more.get("max_val"))
        value: Tensor = args[0]
        if low is not None:
            value = low + _soft(value - low, sharpness)
        if high is not None:
            value = (
                value - _soft(args[0] - high, sharpness) if low is not None else high - _soft(high - value, sharpness)
            )
        return value

    def hardtanh(func: Function, args: tuple[Any, ...], more: dict[str, Any]) -> Tensor:
        bounds = {"min_val": -1.0, "max_val": 1.0} | more
        return between(func, args, bounds)

    kinds = {"relu": relu, "relu6": relu6, "leaky_relu": leaky, "hardtanh": hardtanh}
    kinds |= dict.fromkeys(("clamp", "clamp_min", "clip"), between)
    return {func: rule for name, rule in kinds.items() for func in functions(name)}


@contextmanager
def softened(sharpness: float | None) -> Iterator[None]:
    """Within it, in this thread, ReLUs and clamps run as softplus of that sharpness: their slopes have slopes, too.

    The network is left alone, and a compiled part of it, whose steps cannot be seen, runs as it is.

    Args:
        sharpness: beta of softplus, in one over the unit of activations; None for the network as it is.
    """
    with ExitStack() as stack:
        if sharpness is not None:
            stack.enter_context(Intercepted(_rounded(sharpness)))
        yield
