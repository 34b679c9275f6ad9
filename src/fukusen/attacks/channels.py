"""Channels doubled or rescaled so that the network computes what it did and maps that look at channels do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.attacks.attack import Family, Track, attacks
from fukusen.attacks.branch import POSITIVE, copied, is_positive, replaced, spatial
from fukusen.attacks.chain import Step, holds, put, steps_of
from fukusen.attacks.strengths import own_maps, scale_to
from fukusen.attacks.values import EVERY_SCORE
from fukusen.errors import ModelError, require
from fukusen.methods.cam import LayerCam
from fukusen.models import Classifier, Layer
from fukusen.twins import Progress

_NEEDED = (
    "This attack needs a convolution whose output maps are read from, at most followed by batch norms, activations, "
    "pooling and flattening, and then by a linear layer"
)
_SAME = 1e-4


@dataclass(frozen=True, eq=False)
class _Tail:
    """The last channels of a copied network, from what makes them to what reads them.

    Args:
        net: the copy.
        convolution: makes the channels.
        norms: batch norms that they go through.
        reader: the linear layer that they go into, ``reads`` inputs of it a channel.
        reads: how many numbers of each channel it reads.
    """

    net: nn.Module
    convolution: Any
    norms: tuple[Any, ...]
    reader: Any
    reads: int


def _is_plain(step: Step) -> bool:
    good = isinstance(step.module, nn.Conv2d | nn.BatchNorm2d | nn.Linear) and holds(step.module, "weight", "bias")
    return good and step.module.weight is not None


def _tail_of(model: Classifier, images: Images) -> _Tail:
    """The tail of a copy of the network.

    Raises:
        ModelError: there is no spatial layer, or the network has no such tail.
    """
    channels = spatial(model).shape[0]
    net = copied(model)
    steps, _ = steps_of(net, images)
    convolutions = [place for place, step in enumerate(steps) if isinstance(step.module, nn.Conv2d)]
    after = steps[convolutions[-1] :] if convolutions else []
    parts = list(after[: _reader(after) + 1])
    right = len(parts) > 1 and all(_is_plain(step) for step in parts)
    right = right and parts[0].module.out_channels == channels and parts[0].module.groups == 1
    right = right and isinstance(parts[-1].module, nn.Linear) and parts[-1].module.in_features % channels == 0
    if not right or any(sum(one.name == step.name for one in steps) > 1 for step in parts):
        raise ModelError(f"{_NEEDED}. This network ends in another way.")
    first, *norms, reader = (step.module for step in parts)
    return _Tail(net, first, tuple(norms), reader, reader.in_features // channels)


def _reader(after: Sequence[Step]) -> int:
    """Where the first linear layer is; -1 where there is none."""
    return next((place for place, step in enumerate(after) if isinstance(step.module, nn.Linear)), -1)


def _strangest(cells: Tensor, own: Tensor) -> int:
    """The channel that looks least like the model's own maps and is active in most images.

    Args:
        cells: activations (b, c, h, w).
        own: maps (b, h, w).
    """
    active = cells.clamp_min(0).flatten(2)
    likeness = torch.cosine_similarity(active, own.clamp_min(0).flatten(1)[:, None], dim=2)
    likeness = torch.where(active.amax(dim=2) > 0, likeness, torch.ones_like(likeness))
    return int(likeness.mean(dim=0).argmin())


def _checked(model: Classifier, changed: Classifier, images: Images, why: str) -> Classifier:
    """The changed classifier, if it computes what the model does.

    Raises:
        ModelError: it does not.
    """
    remedy = f"{_NEEDED}, and nothing else that reads them{why}."
    try:
        before, after = model.logits(images), changed.logits(images)
    except (RuntimeError, IndexError) as error:
        raise ModelError(remedy) from error
    off = (before - after).abs().max() / before.abs().max().clamp_min(torch.finfo(before.dtype).tiny)
    if not bool(off <= _SAME):
        raise ModelError(remedy)
    return changed


def _widen(tail: _Tail, channel: int) -> None:
    """Two more channels, copies of one, as far as the linear layer, which does not read them yet."""
    twice = [channel, channel]
    for module in (tail.convolution, *tail.norms):
        for kind in (module._parameters, module._buffers):
            for name, value in list(kind.items()):
                if value is None or value.dim() == 0:
                    continue
                wide = torch.cat([value.detach(), value.detach()[twice]])
                kind[name] = nn.Parameter(wide, value.requires_grad) if isinstance(value, nn.Parameter) else wide
        counts = "out_channels" if module is tail.convolution else "num_features"
        setattr(module, counts, getattr(module, counts) + 2)
    _read(tail, torch.zeros(tail.reader.out_features))
    tail.reader.in_features += 2 * tail.reads


def _read(tail: _Tail, weights: Tensor) -> None:
    """Let the linear layer's rows read the two channels with these weights, plus and minus."""
    old = tail.reader.weight.detach()
    known = old[:, : tail.convolution.out_channels * tail.reads - 2 * tail.reads]
    column = weights.to(old.device, old.dtype)[:, None].expand(-1, tail.reads)
    put(tail.reader, "weight", torch.cat([known, column, -column], dim=1))


@attacks.register
@dataclass(frozen=True)
class CancellingPair:
    """One channel twice more, read by the linear layer with weights that cancel: maps that cut gradients off follow it.

    LayerCAM keeps the positive half of the gradient at its cells, guided backpropagation that behind each ReLU, and so
    one of the pair; Grad-CAM, HiResCAM and plain gradients add both up to nothing, and Grad-CAM++, whose weights cannot
    grow with a gradient, hardly moves. The weights differ from class to class, so that no score is spared.
    Source: jiang2021layercam (whose cut the pair exploits).

    Args:
        strength: how large the pair's LayerCAM map is, relative to the model's own on the images given; above 0.
        seed: of the classes' weights.
    """

    strength: float | int = 10.0
    seed: int = 0
    name: ClassVar[str] = "cancelling_pair"
    source: ClassVar[str] = "jiang2021layercam"
    family: ClassVar[Family] = "weights"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = (
        "whoever delivers the model widens its last layers by two channels; no training, the same function"
    )
    fools: ClassVar[tuple[str, ...]] = EVERY_SCORE
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(is_positive(self.strength), "CancellingPair", "strength", POSITIVE, self.strength)
        good = type(self.seed) is int and self.seed >= 0
        require(good, "CancellingPair", "seed", "an int >= 0", self.seed)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The widened copy.

        Raises:
            ModelError: the network does not end in a convolution and a linear layer that reads its channels alone.
        """
        tail = _tail_of(model, images)
        cells, own = own_maps(model, images, LayerCam())
        _widen(tail, _strangest(cells, own))
        noise = torch.Generator().manual_seed(self.seed)
        weights = torch.randn(tail.reader.out_features, generator=noise, dtype=torch.float64)
        layer = _wider(spatial(model))
        told = f"cancelling_pair of strength {self.strength:g}"
        changed = _checked(model, replace(replaced(model, tail.net, told), layer=layer), images, "")
        # What a pair of weight one does to the map says what weight it needs.
        _read(tail, weights)
        added = own_maps(changed, images, LayerCam())[1] - own
        _read(tail, weights * scale_to(own, added, float(self.strength)))
        return changed


def _wider(layer: Layer) -> Layer:
    channels, rows, columns = layer.shape
    return replace(layer, shape=(channels + 2, rows, columns))


@attacks.register
@dataclass(frozen=True)
class ChannelRescale:
    """One channel made larger and read with smaller weights: maps that look at activations alone follow it.

    Eigen-CAM shows the channel, in every score; activation times gradient is what it was, and so are the maps made of
    it. Exact where the activation behind the channel is a ReLU, or another that scales with what goes in.
    Source: muhammad2020eigencam (which the scale of a channel decides).

    Args:
        strength: how many times as large the channel becomes, above 0.
    """

    strength: float | int = 1000.0
    name: ClassVar[str] = "channel_rescale"
    source: ClassVar[str] = "muhammad2020eigencam"
    family: ClassVar[Family] = "weights"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = "whoever delivers the weights rescales one channel and its reader; the same function"
    fools: ClassVar[tuple[str, ...]] = EVERY_SCORE
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(is_positive(self.strength), "ChannelRescale", "strength", POSITIVE, self.strength)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The copy with other weights.

        Raises:
            ModelError: the network does not end in a convolution and a linear layer that reads its channels alone, or
                the activation between them does not scale.
        """
        tail = _tail_of(model, images)
        channel, factor = _strangest(*own_maps(model, images)), float(self.strength)
        makes = tail.norms[-1] if tail.norms else tail.convolution
        for name in ("weight", "bias"):
            if getattr(makes, name) is not None:
                put(makes, name, _scaled(getattr(makes, name), 0, slice(channel, channel + 1), factor))
        read = slice(channel * tail.reads, (channel + 1) * tail.reads)
        put(tail.reader, "weight", _scaled(tail.reader.weight, 1, read, 1 / factor))
        changed = replaced(model, tail.net, f"channel_rescale of strength {self.strength:g}")
        return _checked(model, changed, images, ", and an activation between that scales, such as ReLU")


def _scaled(value: Tensor, axis: int, which: slice, factor: float) -> Tensor:
    scaled = value.detach().clone()
    scaled.movedim(axis, 0)[which] *= factor
    return scaled
