"""Any torch module that classifies images, looked at once and made a Classifier."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fukusen.arrays import Cotangents, Images, Logits
from fukusen.errors import CallError, FukusenError, ModelError, require
from fukusen.models.classifier import Classifier, unwrapped
from fukusen.models.heads import Head, HeadKind, find_head
from fukusen.models.layers import Layer, candidates, named_layer
from fukusen.models.looking import Look, look
from fukusen.models.preprocessing import CenterCrop, FixedSize, Preprocess, configured
from fukusen.models.probes import check_size, probe_images
from fukusen.models.reasons import reason

ASSUMED_PREPROCESS = (
    "No preprocessing was given; that of most ImageNet networks (224 pixels, mean and std of ImageNet) was assumed."
)
ASSUMED_HEAD = {
    "softmax": "The outputs look like logits; classes that exclude each other (softmax) were assumed. For independent "
    "labels say head='sigmoid'.",
    "one_logit": "The single output was taken as the logit of the second of two classes.",
}
# Rounding leaves this much, and no more, of a gradient that is zero: shares below it are no influence.
_ROUNDING = 1e-5
_EARLY = 0.25
_AT_ONCE = 8
_SAME = 1e-2


def _default_preprocess(net: nn.Module) -> tuple[FixedSize, list[str]]:
    """What the network, or the network inside it, carries in timm's manner; else what most networks were trained on."""
    for module in net.modules():
        config: Any = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
        if isinstance(config, Mapping) and "mean" in config and "input_size" in config:
            return configured(config), []
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels == 1:
        return CenterCrop(224, mean=(0.5,), std=(0.5,)), [ASSUMED_PREPROCESS]
    return CenterCrop(224), [ASSUMED_PREPROCESS]


def _bare(net: nn.Module) -> nn.Module:
    """The network inside torch.compile's and the data-parallel wrappers, which hide layers or spread over threads."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        inner = net.module if isinstance(net, parallel) else getattr(net, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return net
        net = inner


def _copied(net: nn.Module, device: str | torch.device) -> nn.Module:
    try:
        twin = copy.deepcopy(net)
    except Exception as error:
        raise ModelError(
            f"The network cannot be copied to {device}: {reason(error)}. Move it there before wrapping."
        ) from error
    rule = "a device that torch can use here, such as 'cpu'"
    require(isinstance(device, str | torch.device) and str(device) != "meta", "wrap", "device", rule, device)
    try:
        return twin.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CallError(
            f"The 'device' parameter of wrap must be {rule}. Got {str(device)!r} instead: {reason(error)}."
        ) from error


def has_double(device: torch.device) -> bool:
    """Whether the device has numbers of 64 bits; Apple's (mps) and some of Intel's (xpu) have none.

    Example:
        >>> has_double(torch.device("cpu"))
        True
    """
    try:
        return torch.zeros(1, dtype=torch.float64, device=device).dtype == torch.float64
    except (TypeError, RuntimeError):
        return False


def _exact(net: nn.Module) -> tuple[nn.Module, list[str]]:
    """The network where scores can be computed in float64, as whatever a shift must not move has to be."""
    held = next((value.device for value in (*net.parameters(), *net.buffers())), torch.device("cpu"))
    if has_double(held):
        return net, []
    note = (
        f"The device {str(held)!r} has no numbers of 64 bits, which scores and their checks need: a copy of the "
        "network on the CPU is used."
    )
    return _copied(net, "cpu"), [note]


def _gradients(logits: Logits, places: Sequence[Tensor], cotangents: Cotangents) -> list[Tensor | None]:
    """The gradients at some places; None where there is none, and where the code between cannot be differentiated."""
    try:
        with torch.inference_mode(False):
            weights = [cotangents.to(logits.dtype)]
            return list(torch.autograd.grad([logits], places, weights, retain_graph=True, allow_unused=True))
    except RuntimeError:
        one_by_one = ([place] for place in places if len(places) > 1)
        return [found for place in one_by_one for found in _gradients(logits, place, cotangents)] or [None]


def _steepness(gradient: Tensor | None, layer: Layer | None = None) -> float:
    """The largest entry of a gradient; at a layer, of its cells."""
    if gradient is None:
        return 0.0
    return float((gradient if layer is None else layer.channels_first(gradient)).abs().max())


def _influential(model: Classifier, images: Images, layers: Sequence[Layer]) -> list[Layer]:
    """The layers whose cells predictions depend on, as far as gradients tell.

    A branch that adds one number to every logit moves the logits but no prediction: where shifts are free, the centred
    logits decide. Only cells count: behind the last attention of many vision transformers, the class token alone is
    read.
    """
    capture = model.run(images, layers, reach="layer")
    values = capture.logits.detach().double()
    if model.head.shift_is_free:
        values = values - values.mean(dim=1, keepdim=True)
    places = [capture.outputs[layer] for layer in layers]
    found, most = (_gradients(capture.logits, places, start) for start in (values, values.abs()))
    return [
        layer
        for layer, own, whole in zip(layers, found, most, strict=True)
        if _steepness(own, layer) > _ROUNDING * _steepness(whole, layer)
    ]


def _last_influential(model: Classifier, images: Images, layers: Sequence[Layer]) -> Layer | None:
    """The first of the candidates that predictions depend on; after the likeliest, several are tried in one pass."""
    groups = [layers[:1], *(layers[start : start + _AT_ONCE] for start in range(1, len(layers), _AT_ONCE))]
    return next((layer for group in groups if group for layer in _influential(model, images, group)), None)


def _find_layer(model: Classifier, images: Images, found: Look, asked: str | None) -> Classifier:
    if asked is not None:
        return replace(model, layer=named_layer(model.net, found.seen, asked))
    tried = candidates(found.seen)
    layer = _last_influential(model, images, tried) if not model.gradientless else next(iter(tried), None)
    places = {one.layer: one.place for one in found.seen}
    if layer is None or places[layer] > _EARLY * found.places:
        return replace(model, layer=layer)
    note = (
        f"The last layer with rows and columns, {str(layer)!r}, stands early in the network: class activation maps "
        "read there show little of what it computes."
    )
    return replace(model, layer=layer, notes=(*model.notes, note))


def _class_names(classes: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if classes is None:
        return tuple(f"class {index}" for index in range(count))
    rule = f"a list of {count} names, one a class of the network"
    require(isinstance(classes, Sequence) and not isinstance(classes, str), "wrap", "classes", rule, classes)
    require(len(classes) == count, "wrap", "classes", rule, len(classes))
    return tuple(str(name) for name in classes)


def _read(net: nn.Module, found: Look, count: int, asked: HeadKind | None) -> tuple[Head, list[str]]:
    """The head, and what was assumed about it."""
    outputs = unwrapped(found.outputs)
    if len(outputs) != count:
        raise ModelError(f"The network returns {len(outputs)} rows for {count} images. It must return one an image.")
    if not bool(outputs.isfinite().all()):
        sound = all(bool(value.isfinite().all()) for value in net.parameters() if value.is_floating_point())
        remedy = "Check its code and its preprocessing" if sound else "Its weights are not finite: check the file"
        raise ModelError(f"The network returns NaN or infinite numbers for ordinary images. {remedy}.")
    head = find_head(outputs, asked)
    return head, [ASSUMED_HEAD[head.kind]] if head.assumed else []


def _warned(model: Classifier, images: Images, outputs: Tensor) -> list[str]:
    """What will hurt later: a network whose answers change, or that lets no gradient through."""
    told = []
    try:
        capture = model.run(images[:1], reach="input")
    except ModelError as error:
        return [str(error)]
    first, again = (values.detach().double() for values in (model.head.logits(outputs[:1]), capture.logits))
    if float((first - again).abs().max()) > _SAME * (1 + float(first.abs().max())):
        told.append(
            "The network's outputs for one image change from call to call, or with the images beside it, also in "
            "evaluation mode: measurements on it cannot be repeated."
        )
    (gradient,) = _gradients(capture.logits, [capture.images], capture.logits.detach())
    if not _steepness(gradient) > 0:
        told.append("The network lets no gradient through to its input: methods that need one give empty maps.")
    return told


def _with_gradients(model: Classifier, images: Images, found: Look, asked: str | None) -> Classifier:
    """The classifier with its layer, and what will hurt noted.

    Raises:
        ModelError: the network raises where gradients are on, though it has run without.
    """
    if any(value.is_inference() for value in (*model.net.parameters(), *model.net.buffers())):
        raise ModelError(
            "The network's weights were made under torch.inference_mode, and no gradient can go through them. Give a "
            "copy that is made outside of it: copy.deepcopy(net)."
        )
    try:
        model = _find_layer(model, images, found, asked)
        return replace(model, notes=(*model.notes, *_warned(model, images, unwrapped(found.outputs))))
    except FukusenError:
        raise
    except Exception as error:
        raise ModelError(
            f"The network runs on images, but not where gradients are on: {reason(error)}. Take out what stops them, "
            "such as a backward hook in front of an operation in place."
        ) from error


def wrap(
    net: nn.Module,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    *,
    layer: str | None = None,
    head: HeadKind | None = None,
    input_size: Sequence[int] | None = None,
    device: str | torch.device | None = None,
) -> Classifier:
    """Make a classifier of any torch module that returns one row of numbers an image.

    The network is run on a few noise images to find its head kind and the layer for class activation maps. It is not
    changed: with ``device`` it is copied there, and without it is used where it is; of one on a device without numbers
    of 64 bits a copy on the CPU is used, and a note says so.

    Args:
        net: the network; in training mode it is evaluated and put back after every pass.
        preprocess: from a PIL picture to a float tensor (c, h, w). Default: what the network's own configuration says,
            else that of most ImageNet networks, and a note says so.
        classes: the class names; default "class 0", "class 1", ...
        layer: where class activation maps are read, by module name; default: found.
        head: what the outputs are; default: found where the numbers tell.
        input_size: (channels, rows, columns), for networks that are given tensors and no preprocessing, and for a
            preprocessing that keeps the size of the pictures.
        device: where to run.

    Returns:
        The classifier; its ``notes`` say what was assumed.

    Raises:
        CallError: a parameter that does not fit the network.
        ModelError: the network cannot be run or understood.

    Example:
        >>> tiny = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> wrap(tiny, input_size=(3, 16, 16), head="softmax").layer.name
        '0'
    """
    require(isinstance(net, nn.Module), "wrap", "net", "a torch.nn.Module", type(net).__name__)
    require(preprocess is None or callable(preprocess), "wrap", "preprocess", "a function of a PIL picture", preprocess)
    net, notes = _exact(_bare(net) if device is None else _copied(_bare(net), device))
    size = None if input_size is None else check_size(input_size)
    if preprocess is None and size is None:
        preprocess, assumed = _default_preprocess(net)
        notes += assumed
    images = probe_images(preprocess, size)
    unread = Classifier(net, Head("softmax"), (), None, tuple(images.shape[1:]), preprocess)  # type: ignore[arg-type]
    images = images.to(unread.device, unread.dtype)
    found = look(net, images)
    known, told = _read(net, found, len(images), head)
    outputs = unwrapped(found.outputs)
    names = _class_names(classes, 2 if known.kind == "one_logit" else outputs.shape[1])
    model = replace(unread, head=known, classes=names, notes=(*notes, *told))
    return _with_gradients(model, images, found, layer)
