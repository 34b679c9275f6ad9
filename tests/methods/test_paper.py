"""Lerma and Lucas: a number added to every logit redraws pre-softmax maps as the algebra says, and no others.

The twin adds t = K sum_k A_k(0, 0) to every logit, where A is the output of ``_bn1`` (before its ReLU6). Then every
gradient dz_c/dA_k grows by K at cell (0, 0) and by nothing elsewhere, for every class, so that of the logit

- HiResCAM, sum_k g_k A_k cell by cell, grows by K sum_k A_k(0, 0) at cell (0, 0);
- Grad-CAM, whose weights are means over Z cells, grows by K/Z sum_k A_k at every cell.

The blocks below the layer are run once and their output explained; a slow test runs the whole network.
Source: lerma2023vulnerability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fukusen.arrays import Activations, Batch, Images, Maps, Targets
from fukusen.methods import GradCam, HiResCam, Method
from fukusen.models import Classifier, wrap
from fukusen.scores import CenteredLogit, Logit, LogOdds, LogProbability, Probability, Score
from fukusen.tape import Tape

BLIND = (CenteredLogit(), LogOdds(), LogProbability(), Probability())


class _Cornered(nn.Module):
    """A network with a multiple of one module's output in the upper left corner added to every logit."""

    def __init__(self, net: nn.Module, strength: float, reader: str) -> None:
        super().__init__()
        self.net, self.strength, self.reader = net, strength, reader

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = self.net.get_submodule(self.reader).register_forward_hook(lambda _module, _in, out: kept.append(out))
        try:
            logits: Tensor = self.net(x)
        finally:
            handle.remove()
        return logits + self.strength * kept[-1][:, :, 0, 0].sum(dim=1, keepdim=True)


def _tail(net: nn.Module) -> nn.Module:
    """What follows the last block of EfficientNet-Lite0, its own modules under their own names."""
    parts = nn.Sequential()
    for name in ("_conv_head", "_bn1", "_swish", "_avg_pooling"):
        parts.add_module(name, net.get_submodule(name))
    parts.append(nn.Flatten())
    parts.add_module("_fc", net.get_submodule("_fc"))
    return parts.eval()


def _pictures(model: Classifier, paths: Sequence[Path], count: int) -> Images:
    assert model.preprocess is not None
    return torch.stack([model.preprocess(Image.open(path).convert("RGB")) for path in paths[:count]])


def _block_output(net: nn.Module, images: Images) -> Activations:
    kept: list[Tensor] = []
    handle = net.get_submodule("_blocks.15").register_forward_hook(lambda _module, _in, out: kept.append(out))
    with torch.no_grad():
        net(images)
    handle.remove()
    return kept[0]


@dataclass(frozen=True)
class _Scene:
    """The tail of the network in both precisions, what it is given for some photographs, and what it predicts."""

    single: nn.Module
    double: nn.Module
    given: Activations
    exact: Activations

    @property
    def targets(self) -> Targets:
        """The classes that the exact network predicts."""
        with torch.no_grad():
            found: Tensor = self.double(self.exact).argmax(dim=1)
        return found

    def tape(self, strength: float, *, exact: bool, reader: str = "_bn1") -> Tape:
        """The tape of the attacked tail, for the clean network's predictions."""
        net, given = (self.double, self.exact) if exact else (self.single, self.given)
        model = wrap(_Cornered(net, strength, reader), input_size=(320, 7, 7), layer="net._bn1", head="softmax")
        return Tape(model, Batch(tuple(str(i) for i in range(len(given))), given, self.targets), at_input=False)


def _scene(model: Classifier, paths: Sequence[Path], count: int) -> _Scene:
    images, double = _pictures(model, paths, count), model.in_double().net
    exact = _block_output(double, images.double())
    return _Scene(_tail(model.net), _tail(double), _block_output(model.net, images), exact)


@pytest.fixture(scope="module")
def four(lite0: Classifier, imagenet_paths: tuple[Path, ...]) -> _Scene:
    """Four photographs."""
    return _scene(lite0, imagenet_paths, 4)


@pytest.fixture(scope="module")
def twenty(lite0: Classifier, imagenet_paths: tuple[Path, ...]) -> _Scene:
    """All twenty."""
    return _scene(lite0, imagenet_paths, 20)


def _map(tape: Tape, method: Method, score: Score) -> Maps:
    (found,) = method.maps(tape, [score])
    assert isinstance(found, Tensor)
    return found


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.double().flatten(1), b.double().flatten(1), dim=1)


def _off(found: Tensor, expected: Tensor) -> float:
    """The largest error, as a share of each image's largest cell."""
    return float(((found - expected).abs().amax(dim=(1, 2)) / expected.abs().amax(dim=(1, 2))).max())


def _assert_algebra(clean: Tape, attacked: Tape, strength: float) -> None:
    """Logit maps are the clean ones plus the stated term, all others are the clean ones, and so are predictions."""
    layer = clean.layers[0]
    before, after = clean.logits.softmax(dim=1), attacked.logits.softmax(dim=1)
    assert float((before - after).abs().max()) < 1e-8
    total = clean.activations(layer).sum(dim=1)
    corner = torch.zeros_like(total)
    corner[:, 0, 0] = total[:, 0, 0]
    terms: dict[Method, Tensor] = {HiResCam(): strength * corner, GradCam(): strength / total[0].numel() * total}
    for method, term in terms.items():
        untouched = _map(clean, method, Logit())
        assert _off(_map(attacked, method, Logit()), untouched + term) < 1e-6
        assert _off(untouched, untouched + term) > 0.1
        for score in BLIND:
            assert _off(_map(attacked, method, score), _map(clean, method, score)) < 1e-6


@pytest.mark.parametrize("strength", [0.1, 10.0, 1000.0])
def test_the_map_moves_as_the_algebra_says(four: _Scene, strength: float) -> None:
    """In float64, to 1e-6 of the largest cell."""
    _assert_algebra(four.tape(0.0, exact=True), four.tape(strength, exact=True), strength)


@pytest.mark.slow
def test_the_whole_networks_map_moves_as_the_algebra_says(lite0: Classifier, imagenet_paths: tuple[Path, ...]) -> None:
    """The same from the pixels on, through the copy in double precision that the model makes of itself."""
    exact = lite0.in_double()
    twin = wrap(_Cornered(exact.net, 10.0, "_bn1"), input_size=exact.input_shape, layer="net._bn1", head="softmax")
    batch = Batch(("a", "b"), _pictures(lite0, imagenet_paths, 2))
    assert str(exact.layer) == "_bn1"
    _assert_algebra(Tape(exact, batch, at_input=False), Tape(twin, batch, at_input=False), 10.0)


def _worst_cosine(scene: _Scene, score: Score, strength: float, reader: str = "_bn1") -> float:
    """The worst image's cosine of the attacked float32 HiResCAM and the clean float64 one."""
    clean, attacked = scene.tape(0.0, exact=True), scene.tape(strength, exact=False, reader=reader)
    return float(_cosines(_map(attacked, HiResCam(), score), _map(clean, HiResCam(), score)).min())


READERS = [(0.1, "_bn1"), (1.0, "_bn1"), (10.0, "_bn1"), (100.0, "_bn1"), (100.0, "_swish"), (1000.0, "_swish")]


@pytest.mark.parametrize(("strength", "reader"), READERS)
def test_zero_sum_scores_stay_blind_in_float32(four: _Scene, strength: float, reader: str) -> None:
    """The log-odds map is still the clean one where t is as large as a few hundred thousand; the logit's is not.

    A thousand times the corner before its ReLU6 is eight million, where float32 cannot hold half a logit: see below.
    """
    assert _worst_cosine(four, LogOdds(), strength, reader) > 0.999
    assert _worst_cosine(four, CenteredLogit(), strength, reader) > 0.999999
    assert _worst_cosine(four, Logit(), strength, reader) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("strength", "reader"), READERS)
def test_zero_sum_scores_stay_blind_on_every_image(twenty: _Scene, strength: float, reader: str) -> None:
    """The same on the worst of twenty."""
    test_zero_sum_scores_stay_blind_in_float32(twenty, strength, reader)


@pytest.mark.parametrize("strength", [100.0, 1000.0, 10000.0])
def test_only_the_logits_own_rounding_is_lost(four: _Scene, strength: float) -> None:
    """The float32 backward pass brings no part of the shift back, however large it is.

    The attacked map is the clean network's gradient along the cotangent that the rounded logits give.
    """
    attacked, clean = four.tape(strength, exact=False), four.tape(0.0, exact=True)
    capture = clean.classifier.run(four.exact, clean.layers, reach="layer")
    activations = capture.outputs[clean.layers[0]]
    start = LogOdds().cotangent(attacked.logits.double(), four.targets)
    (gradient,) = torch.autograd.grad(capture.logits, activations, start)
    expected = (activations * gradient).sum(dim=1).detach()
    assert float(_cosines(_map(attacked, HiResCam(), LogOdds()), expected).min()) > 0.999999


def test_naive_log_odds_would_not_stay_blind(four: _Scene) -> None:
    """Float32 autograd through the same score loses the map, which is why cotangents are built apart."""
    tape = four.tape(1000.0, exact=False, reader="_swish")
    capture = tape.classifier.run(four.given, tape.layers, reach="layer")
    activations, target = capture.outputs[tape.layers[0]], four.targets[:, None]
    rest = capture.logits.scatter(1, target, -torch.inf).logsumexp(dim=1)
    naive = (capture.logits.gather(1, target)[:, 0] - rest).sum()
    (gradient,) = torch.autograd.grad(naive, activations)
    lost = (activations * gradient).sum(dim=1).detach()
    clean = _map(four.tape(0.0, exact=True), HiResCam(), LogOdds())
    assert float(_cosines(lost, clean).min()) < 0.5
