"""Layers that are asked for by name after the network was looked at; it is looked at once more for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from torch import nn

from fukusen.models.classifier import Classifier
from fukusen.models.layers import Layer, Seen, named_layer
from fukusen.models.looking import look
from fukusen.models.probes import probe_images

_SEEN: WeakKeyDictionary[nn.Module, Sequence[Seen]] = WeakKeyDictionary()


def layer_named(model: Classifier, asked: str) -> Layer:
    """The layer of that name, as ``name`` (its last call) or ``name#call``.

    Args:
        model: the model.
        asked: a module's name in its network.

    Raises:
        UnknownName: the network has no module of that name.
        CallError: the module's output has no rows and columns, or it is not called that often.
    """
    if model.layer is not None and str(model.layer) == asked:
        return model.layer
    if model.net not in _SEEN:
        images = probe_images(None, model.input_shape).to(model.device, model.dtype)
        _SEEN[model.net] = look(model.net, images).seen
    return named_layer(model.net, _SEEN[model.net], asked)
