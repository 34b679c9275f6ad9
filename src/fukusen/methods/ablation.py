"""Class activation maps whose channels are weighed by what the score does, not by a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fukusen.arrays import Activations, Images, Logits, Maps, Targets
from fukusen.errors import ModelError, require
from fukusen.methods.cam import NO_LAYER
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import Classifier, Layer
from fukusen.scores import Score, value_of
from fukusen.tape import Tape

Chosen = Int64[Tensor, "b n"]
Weights = Float[Tensor, "b n"]
Image = Float[Tensor, "c h w"]
_AT_ONCE = 256


def strongest(activations: Activations, count: int) -> Chosen:
    """The channels with the largest sum of squares, for each image, largest first."""
    size = activations.double().square().sum(dim=(2, 3))
    return size.argsort(dim=1, descending=True, stable=True)[:, : min(count, activations.shape[1])]


def combined(activations: Activations, chosen: Chosen, weights: Weights) -> Maps:
    """sum_k w_k A_k over the chosen channels."""
    picked = activations.gather(1, chosen[:, :, None, None].expand(-1, -1, *activations.shape[2:]))
    maps: Maps = torch.einsum("bn,bnhw->bhw", weights.to(activations.dtype), picked)
    return maps


@methods.register
@dataclass(frozen=True)
class AblationCam:
    """Ablation-CAM: each channel weighted by how much the score falls when the channel is set to zero.

    The paper divides the fall by the score, which turns the map round where a score is negative; here it is left in
    the score's units. With a linear head behind average pooling it is Grad-CAM of the logit. The network is run up to
    the layer once for each image, and behind it once for each channel. Source: desai2020ablation.

    Args:
        channels: how many to try, those with the largest positive activations, at least 1; None for all.
    """

    channels: int | None = None
    name: ClassVar[str] = "ablation_cam"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "cam"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "desai2020ablation"
    cost: ClassVar[str] = "1 forward pass, and 1 behind the layer for each channel"
    fits: ClassVar[str] = "any network with rows and columns"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        valid = self.channels is None or (type(self.channels) is int and self.channels >= 1)
        require(valid, "AblationCam", "channels", "an int >= 1, or None for all", self.channels)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the layer's resolution; all scores share the passes."""
        model, layer = tape.classifier, tape.classifier.layer
        if layer is None:
            return [NO_LAYER] * len(scores)
        activations = tape.activations(layer)
        # Of a layer read before its ReLU, the largest channels may be those that are switched off.
        chosen = strongest(activations.clamp_min(0), self.channels or activations.shape[1])
        images = tape.batch.images.to(model.device, model.dtype)
        fans_out = _fans_out(tape, layer, images[:1])
        falls: list[list[Tensor]] = [[] for _ in scores]
        for number, channels in enumerate(chosen):
            logits = [_without(model, layer, images[number], part, fans_out) for part in channels.split(_AT_ONCE)]
            every, targets = torch.cat(logits), tape.targets[number].expand(len(channels))
            for score, fall in zip(scores, falls, strict=True):
                fall.append(tape.value(score)[number] - value_of(score, model.head, every, targets))
        return [combined(activations, chosen, torch.stack(fall)) for fall in falls]


def _without(model: Classifier, layer: Layer, image: Image, channels: Targets, fans_out: bool) -> Logits:
    """The logits of one image with one channel of the layer set to zero, a row for each of the channels."""

    def edit(output: Tensor) -> Tensor:
        cells = layer.channels_first(output).expand(len(channels), -1, -1, -1).clone()
        cells[torch.arange(len(channels), device=cells.device), channels] = 0
        return layer.replaced(output, cells)

    rows = 1 if fans_out else len(channels)
    return model.run(image.expand(rows, -1, -1, -1), edits={layer: edit}).logits.detach()


def _fans_out(tape: Tape, layer: Layer, image: Images) -> bool:
    """Whether the part of the network behind the layer takes more rows than the part before it was given."""
    try:
        found = tape.classifier.run(image, edits={layer: lambda output: torch.cat([output, output])}).logits.detach()
    except (RuntimeError, ModelError, ValueError, IndexError):
        return False
    return found.shape[0] == 2 and torch.allclose(found, tape.logits[:1].expand(2, -1), rtol=1e-4, atol=1e-5)


@methods.register
@dataclass(frozen=True)
class ScoreCam:
    """Score-CAM: each channel weighted by how much of the score is left of an image seen through its activation.

    The activation, enlarged bilinearly and scaled to between 0 and 1, is multiplied with the preprocessed image; the
    weights are the softmax over the channels of the score's increase over that of the zero image. The paper's layer
    follows a ReLU; one read before it is cut at zero first. Only the channels with the largest activations are tried,
    and a constant one lets the whole image through or nothing. Source: wang2020scorecam.

    Args:
        channels: how many to try, at least 1; all where there are no more.
    """

    channels: int = 64
    name: ClassVar[str] = "score_cam"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "cam"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "wang2020scorecam"
    cost: ClassVar[str] = "1 forward pass for each channel"
    fits: ClassVar[str] = "any network with rows and columns"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(type(self.channels) is int and self.channels >= 1, "ScoreCam", "channels", "an int >= 1", self.channels)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the layer's resolution, in its activations' unit; all scores share the passes."""
        model, layer = tape.classifier, tape.classifier.layer
        if layer is None:
            return [NO_LAYER] * len(scores)
        activations = tape.activations(layer).clamp_min(0)
        chosen = strongest(activations, self.channels)
        images = tape.batch.images.to(model.device, model.dtype)
        nothing = model.logits(torch.zeros_like(images[:1])).expand_as(tape.logits)
        starts = [value_of(score, model.head, nothing, tape.targets) for score in scores]
        gains: list[list[Tensor]] = [[] for _ in scores]
        for channel in chosen.unbind(dim=1):
            own = activations[torch.arange(len(images), device=activations.device), channel]
            logits = model.logits(images * _window(own, images).to(images.dtype))
            for score, start, gain in zip(scores, starts, gains, strict=True):
                gain.append(value_of(score, model.head, logits, tape.targets) - start)
        return [combined(activations, chosen, torch.stack(gain, dim=1).softmax(dim=1)) for gain in gains]


def _window(maps: Maps, images: Tensor) -> Tensor:
    """The activations (b, h, w) at the images' size and then from 0 to 1, shape (b, 1, rows, columns)."""
    size = images.shape[2:]
    large = torch.nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    low, high = large.amin(dim=(2, 3), keepdim=True), large.amax(dim=(2, 3), keepdim=True)
    spread = high - low
    flat = (large > 0).to(large.dtype)
    return torch.where(spread > 0, (large - low) / torch.where(spread > 0, spread, 1.0), flat)
