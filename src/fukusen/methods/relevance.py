"""Relevance passed back layer by layer, under rules instead of derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from PIL import Image
from torch import Tensor, nn

from fukusen.arrays import Cotangents, Images
from fukusen.errors import CallError, require
from fukusen.methods.canonizing import RULED, Prepared, prepared
from fukusen.methods.interception import Intercepted
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.methods.sharing import RULES, STABILISER, start_at_logits
from fukusen.models import Classifier
from fukusen.models.classifier import unwrapped
from fukusen.records import Undefined
from fukusen.scores import Score
from fukusen.tape import Tape

Composite = Literal["epsilon_plus_flat", "epsilon_gamma_box", "alpha2_beta1"]
_SAME = 1e-3
_GAMMA = 0.25
_BURST = 1e6
_UNFAITHFUL = Undefined("the network cannot be copied faithfully")


def _box(model: Classifier, images: Images) -> tuple[Tensor, Tensor]:
    """The smallest and largest values that a pixel of each channel can have, at least the image's own."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    if model.preprocess is not None:
        size = (model.input_shape[2], model.input_shape[1])
        ends = [model.preprocess(Image.new("RGB", size, colour)).to(images) for colour in ("black", "white")]
        edges = torch.stack([end.mean(dim=(1, 2)) for end in ends])[:, :, None, None]
        low, high = torch.minimum(low, edges.amin(dim=0)), torch.maximum(high, edges.amax(dim=0))
    return low.expand_as(images), high.expand_as(images)


@methods.register
@dataclass(frozen=True)
class Lrp:
    """Layer-wise relevance propagation under one of zennit's composites.

    Relevance starts as the score's cotangent on the logits, so that zero-sum scores start contrastively, and it is
    linear in that start. Biases are given none of it and batch norms are merged into the layers that feed them. It goes
    whole through activations and from a gated signal to the signal, and in proportion to what they add through sums,
    means and the centring of layer norms, whose deviation counts as a constant (ali2022conservative). Undefined where
    the network has layers or steps without a rule, uses a layer twice, or makes relevance explode. Needs the optional
    package zennit.
    Source: bach2015lrp, montavon2019lrp, arras2017explaining, anders2022zennit.

    Args:
        epsilon: stabiliser of the epsilon rule, above 0.
        composite: the rules of linear layers, convolutions and the first layer: ``epsilon_plus_flat``,
            ``epsilon_gamma_box`` (gamma 0.25, and the range of the pixels), or ``alpha2_beta1`` (epsilon, and flat).
    """

    epsilon: float = 1e-6
    composite: Composite = "epsilon_plus_flat"
    name: ClassVar[str] = "lrp"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "relevance"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "bach2015lrp"
    cost: ClassVar[str] = "1 forward pass and 3 relevance passes"
    fits: ClassVar[str] = "convolutional networks that use each layer once"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.epsilon > 0, "Lrp", "epsilon", "a number > 0", self.epsilon)
        known = get_args(Composite)
        require(self.composite in known, "Lrp", "composite", f"one of {', '.join(known)}", self.composite)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, relevance summed over the channels."""
        try:
            import zennit  # noqa: F401
        except ImportError:
            return [Undefined("the package zennit is not installed; pip install 'fukusen[lrp]'")] * len(scores)
        if not scores:
            return []
        found = self._tried(tape, scores)
        if found == _UNFAITHFUL:
            # The network was changed in a way that its weights' versions do not tell.
            found = self._tried(tape, scores, afresh=True)
        return [found] * len(scores) if isinstance(found, Undefined) else found

    def _tried(self, tape: Tape, scores: Sequence[Score], *, afresh: bool = False) -> list[Explained] | Undefined:
        model = tape.classifier
        images = tape.batch.images.to(model.device, model.dtype)
        with torch.inference_mode(False), prepared(model.net, images, afresh=afresh) as ready:
            if isinstance(ready, Undefined):
                return ready
            if self.composite == "epsilon_gamma_box" and not ready.sees_image:
                return Undefined("the box rule needs a first layer that sees the image as it is, without scaling")
            rules = self._rules(model, images)
            with rules_on(ready, rules) as net:
                return self._propagate(tape, net, images, scores)

    def _rules(self, model: Classifier, images: Images) -> dict[str, Any]:
        """Zennit's rules for the first layer, for further convolutions and for linear layers."""
        from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, NoMod, ZBox, ZPlus

        left = {"zero_params": ["bias"]}
        dense = Epsilon(epsilon=self.epsilon, **left)
        if self.composite == "epsilon_gamma_box":
            low, high = _box(model, images)
            inner = Gamma(gamma=_GAMMA, stabilizer=STABILISER, **left)
            # Zennit asks the output with its bias for its sign, and then divides by the sum without: by next to nothing
            # where the two disagree.
            inner.param_modifiers = (*inner.param_modifiers[:4], NoMod(**left))
            return {"first": ZBox(low=low, high=high, stabilizer=STABILISER, **left), "inner": inner, "dense": dense}
        spread = ZPlus(**left) if self.composite == "epsilon_plus_flat" else AlphaBeta(alpha=2.0, beta=1.0, **left)
        return {"first": Flat(**left), "inner": spread, "dense": dense}

    def _propagate(
        self, tape: Tape, net: nn.Module, images: Tensor, scores: Sequence[Score]
    ) -> list[Explained] | Undefined:
        head, leaf = tape.classifier.head, images.clone().requires_grad_()
        with torch.enable_grad():
            with Intercepted(RULES):
                raw = unwrapped(net(leaf.clone()))
            start_at_logits(raw)
            logits = head.logits(raw.float() if raw.dtype.itemsize < 4 else raw)
        if not torch.allclose(logits.detach(), tape.logits, rtol=_SAME, atol=_SAME * float(tape.logits.abs().max())):
            return _UNFAITHFUL
        made: dict[Score, Explained] = {}
        found: list[Explained] = []
        for score in scores:
            direction, scale = tape.factors(score)
            if direction not in made:
                made[direction] = _back(logits, leaf, tape.cotangent(direction))
            own = made[direction]
            if isinstance(own, Undefined) or direction == score:
                found.append(own)
            else:
                found.append(own * scale.to(own.dtype)[:, None, None])
        return found


def _back(logits: Tensor, leaf: Tensor, start: Cotangents) -> Explained:
    """Relevance at the pixels, unless divisions by sums that all but cancel have made it explode on its way."""
    (relevance,) = torch.autograd.grad(logits, leaf, start, retain_graph=True)
    found = relevance.sum(dim=1).detach()
    growth = found.abs().sum(dim=(1, 2)) / start.abs().sum(dim=1).clamp_min(torch.finfo(start.dtype).tiny)
    if not bool((growth < _BURST).all()):
        return Undefined(f"relevance explodes: its mass grows {float(growth.max()):.1e} times on its way to the image")
    return found


def rules_on(ready: Prepared, rules: dict[str, Any]) -> Any:
    """A context in which the layers of a prepared network go by their rules."""
    from zennit.core import Composite as Layout

    def rule(_context: Any, name: str, module: nn.Module) -> Any:
        if not isinstance(module, RULED):
            return None
        kind = "first" if name in ready.first else "dense" if isinstance(module, nn.Linear) else "inner"
        return rules[kind]

    return Layout(module_map=rule).context(ready.net)


def needs_zennit(method: object) -> None:
    """Refuse LRP by name where it cannot run at all.

    Raises:
        CallError: the method is LRP and zennit is not installed.
    """
    if isinstance(method, Lrp):
        try:
            import zennit  # noqa: F401
        except ImportError:
            raise CallError("The method 'lrp' needs the package zennit: pip install 'fukusen[lrp]'.") from None
