"""Maps from attention weights: what the tokens that predictions are read from took in, from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Logits, Maps
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import Capture, Layer
from fukusen.models.attention import Attention, OpenAttention
from fukusen.models.looking import look
from fukusen.models.probes import probe_images
from fukusen.records import Undefined
from fukusen.scores import Score
from fukusen.tape import Tape

_ROUNDING = 1e-6
Rows = Float[Tensor, "b n"]
Weights = Float[Tensor, "b n n"]


@dataclass(frozen=True, eq=False)
class _Opened:
    """One forward pass with its attention weights in the open.

    Args:
        capture: the pass.
        attentions: each attention in it, in order; all over the same tokens.
        start: shares of 1 for each image, equal among the tokens that predictions are read from, zero elsewhere.
        layer: a layer of these tokens.
    """

    capture: Capture
    attentions: list[Attention]
    start: Rows
    layer: Layer

    def slopes(self, cotangents: Logits) -> list[Tensor]:
        """The gradient at the weights of each attention, by one backward pass."""
        ends = [one.weights for one in self.attentions]
        found = torch.autograd.grad(self.capture.logits, ends, cotangents, retain_graph=True, materialize_grads=True)
        return list(found)

    def cells(self, rows: Rows) -> Maps:
        """What each cell has of a number for each token."""
        return self.layer.channels_first(rows[:, :, None])[:, 0].detach()


def _opened(tape: Tape) -> _Opened | Undefined:
    """The pass, or why nothing can be read from its attention."""
    with OpenAttention() as mode:
        capture = tape.classifier.run(tape.batch.images, reach="input")
    trouble = _trouble(mode, len(tape.batch.images))
    if trouble:
        return Undefined(trouble)
    start = _read(capture.logits, mode.found[-1])
    if not bool(start.any(dim=1).all()):
        return Undefined("no prediction depends on its last attention")
    layer = _layer_of(tape, start.shape[1])
    if layer is None:
        return Undefined("the tokens of its attention do not lie in rows and columns")
    return _Opened(capture, mode.found, start, layer)


def _trouble(mode: OpenAttention, images: int) -> str:
    """Why attention cannot be followed from token to token through all layers; empty where it can."""
    if mode.fault:
        return mode.fault
    if any(one.dim() == 4 and one.shape[2] == one.shape[3] for one in mode.unused.values()):
        return "its attention weights are changed between their softmax and their use"
    if not mode.found:
        return "the network has no attention whose weights can be read"
    count = mode.found[-1].weights.shape[-1]
    every = [one.by_head(one.weights) for one in mode.found]
    if any((len(one), *one.shape[2:]) != (images, count, count) for one in every):
        return "its attention looks through windows or at several scales, and not from every token to every other"
    return "" if all(one.weights.requires_grad for one in mode.found) else "no gradient reaches its attention weights"


def _read(logits: Logits, last: Attention) -> Rows:
    """Which tokens predictions are read from, in equal shares of 1.

    Behind the last attention no token sees another any more, so those are the ones whose row of weights moves a logit
    there: the class token, it and the distillation token, or all.
    """
    values = logits.detach()
    away = values - values.mean(dim=1, keepdim=True)
    (gradient,) = torch.autograd.grad(logits, [last.weights], away, retain_graph=True, materialize_grads=True)
    steep = last.by_head(gradient).abs().amax(dim=(1, 3))
    read = (steep > _ROUNDING * steep.amax(dim=1, keepdim=True)).to(steep.dtype)
    return read / read.sum(dim=1, keepdim=True).clamp_min(1)


def _layer_of(tape: Tape, count: int) -> Layer | None:
    """A layer of so many tokens: the classifier's own, or one that another look at the network shows."""
    own = tape.classifier.layer
    if own is not None and own.layout == "tokens" and own.tokens == count:
        return own
    model = tape.classifier
    images = probe_images(None, model.input_shape).to(model.device, model.dtype)
    layers = (one.layer for one in look(model.net, images).seen)
    return next((layer for layer in layers if layer.layout == "tokens" and layer.tokens == count), None)


@methods.register
@dataclass(frozen=True)
class AttentionRollout:
    """Attention rollout: attention averaged over the heads, half of it the token itself, multiplied through all layers.

    It reads no score and no class: every score has the same map, never negative. Read are the rows of the tokens that
    predictions are read from: the class token's, or the mean of several. Undefined without attention, and where it
    looks through windows or at several scales. Source: abnar2020quantifying.
    """

    name: ClassVar[str] = "attention_rollout"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "attention"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "abnar2020quantifying"
    cost: ClassVar[str] = "1 forward pass, shared by the family"
    fits: ClassVar[str] = "vision transformers whose tokens all see each other"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = True

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Maps (b, h, w) at the resolution of the tokens, as shares of 1; one tensor for all scores."""
        if not scores:
            return []
        opened = tape.once("attention", lambda: _opened(tape))
        if isinstance(opened, Undefined):
            return [opened] * len(scores)
        rows = opened.start
        for one in reversed(opened.attentions):
            mean = one.by_head(one.weights.detach()).mean(dim=1)
            rows = rows / 2 + torch.einsum("bi,bij->bj", rows, mean) / 2
        return [opened.cells(rows)] * len(scores)


@methods.register
@dataclass(frozen=True)
class AttentionRelevance:
    """Relevance by gradient-weighted attention: R <- R + mean over the heads of (gradient x attention)^+ R, by layer.

    The rule for self-attention of the generic attention explainability of Chefer, Gur and Wolf; R starts as the
    identity, which is left out of the map. Read are the rows of the tokens that predictions are read from: the class
    token's, or the mean of several. Never negative, and not proportional to the score: each factor of the gradient
    enters in every layer. Undefined without attention, and where it looks through windows or at several scales.
    Source: chefer2021generic.
    """

    name: ClassVar[str] = "attention_relevance"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "attention"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "chefer2021generic"
    cost: ClassVar[str] = "1 forward pass, shared by the family, and 3 backward passes"
    fits: ClassVar[str] = "vision transformers whose tokens all see each other"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Maps (b, h, w) at the resolution of the tokens; proportional scores share one backward pass."""
        if not scores:
            return []
        opened = tape.once("attention", lambda: _opened(tape))
        if isinstance(opened, Undefined):
            return [opened] * len(scores)
        start = opened.start
        made: dict[Score, list[Weights]] = {}
        found: list[Explained] = []
        for score in scores:
            direction, scale = tape.factors(score)
            if direction not in made:
                made[direction] = self._layers(opened, tape.cotangent(direction))
            factor = scale.to(start.dtype)[:, None] if direction != score else torch.ones_like(start[:, :1])
            # Apart from the identity's share, so that what little a saturated probability adds is not lost beside it.
            gained = torch.zeros_like(start)
            for layer in reversed(made[direction]):
                gained = gained + factor * torch.einsum("bi,bij->bj", start + gained, layer)
            found.append(opened.cells(gained))
        return found

    def _layers(self, opened: _Opened, cotangents: Logits) -> list[Weights]:
        """mean over the heads of (gradient x attention)^+ for each layer, the first first."""
        pairs = zip(opened.attentions, opened.slopes(cotangents), strict=True)
        return [one.by_head(one.weights.detach() * slope).clamp_min(0).mean(dim=1) for one, slope in pairs]
