"""The same maps from captum, pytorch-grad-cam and zennit, where they compute the same thing."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fukusen.arrays import Batch, Cotangents, Images, Logits, Maps, Scales, Targets
from fukusen.methods import (
    IntegratedGradients,
    KernelShap,
    Lime,
    Lrp,
    Method,
    Occlusion,
    SlidingOcclusion,
    methods,
)
from fukusen.methods.coalitions import coin_flips, shapley_draws
from fukusen.methods.superpixels import superpixels
from fukusen.models import Classifier, wrap
from fukusen.scores import Score, scores
from fukusen.tape import Tape

RELATIVE = 1e-4
CAMS = {"grad_cam": "GradCAM", "hires_cam": "HiResCAM", "layer_cam": "LayerCAM"}
TARGETS = {"logit": "ClassifierOutputTarget", "probability": "ClassifierOutputSoftmaxTarget"}

captum = pytest.importorskip("captum.attr", reason="captum is not installed", exc_type=ImportError)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the peer's own dependencies say when they are imported
    peer_cams = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed", exc_type=ImportError)
    peer_targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets", exc_type=ImportError)


@dataclass(frozen=True)
class _Case:
    """A classifier, some images and the classes to explain."""

    model: Classifier
    images: Images
    targets: Targets

    def maps(self, method: Method, score: Score) -> Maps:
        """Our maps."""
        batch = Batch(tuple(str(i) for i in range(len(self.images))), self.images, self.targets)
        (found,) = method.maps(Tape(self.model, batch), [score])
        assert isinstance(found, Tensor)
        return found

    def at_logits(self, name: str) -> Callable[[Tensor], Tensor]:
        """The score as a function of the images, for captum."""

        def forward(x: Tensor) -> Tensor:
            logits: Tensor = self.model.net(x)
            return logits if name == "logit" else logits.softmax(dim=1)

        return forward


def _small(scale: float = 1.0) -> nn.Module:
    """Convolutions with biases and a head that weighs every cell, without batch norms and residual connections."""
    torch.manual_seed(12)
    front = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1)]
    net = nn.Sequential(*front, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 5)).eval()
    with torch.no_grad():
        net[-1].weight.mul_(scale)
    return net


def _small_case(scale: float = 1.0) -> _Case:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(13))
    model = wrap(_small(scale), input_size=(3, 16, 16), layer="3", head="softmax")
    return _Case(model, images, torch.tensor([1, 4]))


@pytest.fixture(scope="module")
def cases(lite0: Classifier, imagenet_paths: tuple[Path, ...]) -> dict[str, _Case]:
    """A small random network with noise, and the demo network with two photographs and its own predictions."""
    assert lite0.preprocess is not None
    pictures = torch.stack([lite0.preprocess(Image.open(path).convert("RGB")) for path in imagenet_paths[:2]])
    return {"small": _small_case(), "lite0": _Case(lite0, pictures, lite0.logits(pictures).argmax(dim=1))}


each_case = pytest.mark.parametrize("which", ["small", "lite0"])
each_case_in_turn = pytest.mark.parametrize("which", ["small", pytest.param("lite0", marks=pytest.mark.slow)])
each_target = pytest.mark.parametrize("name", TARGETS)


def _assert_same(found: Tensor, expected: Tensor, relative: float = RELATIVE) -> None:
    """Every image's map is right to a share of its largest cell."""
    assert found.shape == expected.shape
    for one, other in zip(found.double(), expected.detach().double(), strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


def _peer_cam(kind: str, case: _Case, targets: list[Callable[[Tensor], Tensor]]) -> Tensor:
    """pytorch-grad-cam's map before it is cut at zero, scaled to its range and enlarged."""
    net = copy.deepcopy(case.model.net).requires_grad_(False)
    assert case.model.layer is not None
    layer = net.get_submodule(case.model.layer.name).requires_grad_(True)  # the peer raises where all is frozen
    with getattr(peer_cams, kind)(model=net, target_layers=[layer]) as cam:
        outputs = cam.activations_and_grads(case.images)
        sum(target(output) for target, output in zip(targets, outputs, strict=True)).backward()
        activations, gradients = (
            kept[0].numpy() for kept in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)
        )
        found: np.ndarray[Any, Any] = cam.get_cam_image(case.images, layer, targets, activations, gradients, False)
    return torch.from_numpy(found)


@each_target
@each_case
@pytest.mark.parametrize("method", CAMS)
def test_cams_are_pytorch_grad_cams(cases: dict[str, _Case], which: str, method: str, name: str) -> None:
    """Signed and at native resolution, for the logit and for the softmax probability."""
    case = cases[which]
    targets = [getattr(peer_targets, TARGETS[name])(c) for c in case.targets.tolist()]
    found = case.maps(methods.build(method), scores.build(name))
    _assert_same(found, _peer_cam(CAMS[method], case, targets))


@dataclass(frozen=True)
class _Scaled:
    """The logit times a number: a user's own score."""

    scale: float
    name: ClassVar[str] = "scaled_logit"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = "the logit times a number"

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """scale z_c."""
        return self.scale * logits.double().gather(1, targets[:, None])[:, 0]

    def factors(self, logits: Logits, targets: Targets) -> tuple[Score, Scales]:
        """Proportional to nothing else."""
        return self, torch.ones(len(targets), dtype=torch.float64, device=logits.device)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """scale e_c."""
        return torch.zeros_like(logits).scatter(1, targets[:, None], self.scale)


def _grad_cam_plus_plus_peer(case: _Case, scale: float) -> Tensor:
    targets = [lambda output, c=c: scale * output[c] for c in case.targets.tolist()]
    return _peer_cam("GradCAMPlusPlus", case, targets)


def test_grad_cam_plus_plus_is_pytorch_grad_cams_without_its_constant(cases: dict[str, _Case]) -> None:
    """The peer adds 1e-6 to the denominator 2 g^2 + sum(A) g^3, the paper and we do not.

    The larger the gradients, the less that constant matters: with the score a hundred thousand times as large both
    maps are the same; as they are, the peer's Grad-CAM++ of the demo network is that constant's as much as the paper's.
    """
    case = cases["small"]
    model = wrap(copy.deepcopy(case.model.net).double(), input_size=(3, 16, 16), layer="3", head="softmax")
    exact = _Case(model, case.images.double(), case.targets)
    offs = []
    for scale in (1.0, 1e2, 1e5):
        found, peer = (
            exact.maps(methods.build("grad_cam_plus_plus"), _Scaled(scale)),
            _grad_cam_plus_plus_peer(exact, scale),
        )
        offs.append(float((found - peer).abs().max() / peer.abs().max()))
    assert offs[0] > offs[1] > offs[2]
    assert offs[2] < 1e-6


def test_grad_cam_plus_plus_of_the_demo_network(cases: dict[str, _Case]) -> None:
    """The same on real photographs, where the score is scaled so that the peer's constant is lost in rounding."""
    case = cases["lite0"]
    found = case.maps(methods.build("grad_cam_plus_plus"), _Scaled(1e6))
    _assert_same(found, _grad_cam_plus_plus_peer(case, 1e6))


@each_target
@each_case_in_turn
def test_gradients_are_captums(cases: dict[str, _Case], which: str, name: str) -> None:
    """Saliency with its sign, and InputXGradient, both summed over the channels."""
    case = cases[which]
    images, score, forward = case.images.clone().requires_grad_(), scores.build(name), case.at_logits(name)
    saliency = captum.Saliency(forward).attribute(images, target=case.targets, abs=False)
    _assert_same(case.maps(methods.build("gradient"), score), saliency.sum(dim=1))
    product = captum.InputXGradient(forward).attribute(images, target=case.targets)
    _assert_same(case.maps(methods.build("input_x_gradient"), score), product.sum(dim=1))


@each_target
@each_case_in_turn
def test_integrated_gradients_is_captums(cases: dict[str, _Case], which: str, name: str) -> None:
    """With the same Gauss-Legendre points and the same baseline."""
    case, steps = cases[which], 16 if which == "small" else 3
    peer = captum.IntegratedGradients(case.at_logits(name), multiply_by_inputs=True)
    expected = peer.attribute(
        case.images, baselines=0.0, target=case.targets, n_steps=steps, method="gausslegendre", internal_batch_size=2
    )
    _assert_same(case.maps(IntegratedGradients(steps=steps), scores.build(name)), expected.sum(dim=1))


@each_target
@each_case_in_turn
def test_occlusion_is_captums(cases: dict[str, _Case], which: str, name: str) -> None:
    """With windows that lie side by side and a zero fill; captum writes a window's number on each of its pixels."""
    case, grid = cases[which], 4 if which == "small" else 2
    side = case.images.shape[2] // grid
    window = (case.images.shape[1], side, side)
    peer = captum.Occlusion(case.at_logits(name))
    expected = peer.attribute(
        case.images, sliding_window_shapes=window, strides=window, baselines=0.0, target=case.targets
    )
    found = case.maps(Occlusion(grid=grid, window=1.0, fill="zero"), scores.build(name))
    _assert_same(found, expected[:, 0, ::side, ::side])


@each_target
@pytest.mark.parametrize(("size", "stride"), [(4, 4), (5, 3), (6, 1), (7, 7)])
def test_sliding_occlusion_is_captums(name: str, size: int, stride: int) -> None:
    """Also with windows that overlap, where both take each pixel's mean, and that are cut off at the edge."""
    case = _small_case()
    peer = captum.Occlusion(case.at_logits(name))
    expected = peer.attribute(
        case.images, sliding_window_shapes=(3, size, size), strides=(3, stride, stride), target=case.targets
    )
    found = case.maps(SlidingOcclusion(size=size, stride=stride, fill="zero"), scores.build(name))
    _assert_same(found, expected[:, 0])


PARTS = 9


def _cells(case: _Case) -> Tensor:
    labels = superpixels(case.images[:1], PARTS, "cells")
    assert isinstance(labels, Tensor)
    return labels[None]


@each_target
def test_lime_is_captums(name: str) -> None:
    """With the same draws, scikit-learn's ridge regression and the same kernel, one image at a time."""
    linear = pytest.importorskip("captum._utils.models.linear_model", exc_type=ImportError)
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    case = _small_case()

    def draws(_image: Tensor, **_: object) -> Iterator[Tensor]:
        yield torch.ones(1, PARTS)
        yield from (one[None].float() for one in coin_flips(PARTS, 0))

    def nearness(_image: Tensor, _seen: Tensor, drawn: Tensor, **_: object) -> Tensor:
        distance = 1 - torch.nn.functional.cosine_similarity(drawn, torch.ones_like(drawn))
        return (-distance.square() / (2 * 0.25**2)).exp()

    ridge = linear.SkLearnRidge(alpha=1.0)
    peer = captum.Lime(case.at_logits(name), ridge, similarity_func=nearness, perturb_func=draws)
    expected = [
        peer.attribute(image[None], target=int(target), feature_mask=_cells(case), n_samples=61)[:, 0]
        for image, target in zip(case.images, case.targets, strict=True)
    ]
    found = case.maps(Lime(samples=60, segments=PARTS, fill="zero"), scores.build(name))
    _assert_same(found, torch.cat(expected))


@each_target
def test_kernel_shap_is_captums(name: str) -> None:
    """With the same draws; captum weighs the ends by a million where we hold them exactly."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    case = _small_case()

    def draws(_image: Tensor, **_: object) -> Iterator[Tensor]:
        yield torch.ones(1, PARTS)
        yield torch.zeros(1, PARTS)
        yield from (one[None].float() for one in shapley_draws(PARTS, 0))

    peer = captum.KernelShap(case.at_logits(name))
    peer.perturb_func = draws
    expected = [
        peer.attribute(image[None], target=int(target), feature_mask=_cells(case), n_samples=62)[:, 0]
        for image, target in zip(case.images, case.targets, strict=True)
    ]
    found = case.maps(KernelShap(samples=60, segments=PARTS, fill="zero"), scores.build(name))
    _assert_same(found, torch.cat(expected), relative=1e-3)


@pytest.mark.parametrize("name", scores.names())
def test_lrp_is_zennits(name: str) -> None:
    """EpsilonPlusFlat, biases left out, on a network without batch norms and residual connections."""
    composites = pytest.importorskip("zennit.composites", reason="zennit is not installed")
    attribution = pytest.importorskip("zennit.attribution")
    case, score = _small_case(), scores.build(name)
    with torch.no_grad():
        start = score.cotangent(case.model.net(case.images), case.targets)
    composite = composites.EpsilonPlusFlat(zero_params=["bias"])
    with attribution.Gradient(copy.deepcopy(case.model.net), composite) as attributor:
        _, expected = attributor(case.images, start)
    _assert_same(case.maps(Lrp(), score), expected.sum(dim=1))
