"""The later class activation maps from pytorch-grad-cam: the same where it computes the same, and where it does not."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fukusen.arrays import Batch, Images, Maps, Targets
from fukusen.methods import AblationCam, FinerCam, FullGrad, Method, ScoreCam, XGradCam
from fukusen.methods.biases import Biases
from fukusen.methods.eigen_cam import projected
from fukusen.methods.finer_cam import similar
from fukusen.models import INPUT, Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import Logit, scores
from fukusen.tape import Tape

RELATIVE = 1e-4
TARGETS = {"logit": "ClassifierOutputTarget", "probability": "ClassifierOutputSoftmaxTarget"}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the peer's own dependencies say when they are imported
    peer_cams = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed", exc_type=ImportError)
    peer_targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets", exc_type=ImportError)
    peer_svd = pytest.importorskip("pytorch_grad_cam.utils.svd_on_activations", exc_type=ImportError)

each_target = pytest.mark.parametrize("name", TARGETS)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors: a second thread would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _net() -> nn.Module:
    """Biases, batch norms, ReLUs and a head that weighs every cell."""
    torch.manual_seed(61)
    front = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
    ]
    net = nn.Sequential(*front, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 5)).eval()
    nn.init.normal_(net[1].running_mean, std=0.3)
    nn.init.normal_(net[1].bias, std=0.3)
    return net


def _images() -> Images:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(62))


def _model(layer: str) -> Classifier:
    return wrap(_net(), input_size=(3, 16, 16), layer=layer, head="softmax")


CHOSEN = torch.tensor([1, 4])


def _maps(method: Method, model: Classifier, name: str, images: Images, targets: Targets = CHOSEN) -> Maps:
    batch = Batch(tuple(str(i) for i in range(len(images))), images, targets)
    (found,) = method.maps(Tape(model, batch), [scores.build(name)])
    assert isinstance(found, Tensor), found
    return found


def _peer_cam(kind: str, model: Classifier, images: Images, targets: list[Callable[[Tensor], Tensor]]) -> Tensor:
    """The peer's map before it is cut at zero, scaled to its range and enlarged."""
    net = copy.deepcopy(model.net)
    assert model.layer is not None
    layer = net.get_submodule(model.layer.name)
    with getattr(peer_cams, kind)(model=net, target_layers=[layer]) as cam:
        outputs = cam.activations_and_grads(images)
        sum(target(output) for target, output in zip(targets, outputs, strict=True)).backward()
        kept = cam.activations_and_grads
        activations, gradients = (values[0].numpy() for values in (kept.activations, kept.gradients))
        found: np.ndarray[Any, Any] = cam.get_cam_image(images, layer, targets, activations, gradients, False)
    return torch.from_numpy(found)


def _off(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of each image's largest cell."""
    expected = expected.detach().double()
    return float(((found.double() - expected).abs().amax(dim=(1, 2)) / expected.abs().amax(dim=(1, 2))).max())


@each_target
def test_x_grad_cam_is_pytorch_grad_cams_after_a_relu(name: str) -> None:
    """Where the paper's features are read, the peer's constant of 1e-7 in the divisor is lost in rounding."""
    model, images = _model("5"), _images()
    targets = [getattr(peer_targets, TARGETS[name])(c) for c in CHOSEN.tolist()]
    assert _off(_maps(XGradCam(), model, name, images), _peer_cam("XGradCAM", model, images, targets)) < RELATIVE


def test_x_grad_cam_before_a_relu_is_another_map_at_the_peer() -> None:
    """What its own ReLU would cut off stands in the peer's divisor and in its map; ours is the same on either side."""
    images, targets = _images(), [peer_targets.ClassifierOutputTarget(c) for c in CHOSEN.tolist()]
    before, after = (_peer_cam("XGradCAM", _model(layer), images, targets) for layer in ("4", "5"))
    assert _off(before, after) > 1
    ours_before, ours_after = (_maps(XGradCam(), _model(layer), "logit", images) for layer in ("4", "5"))
    assert _off(ours_before, ours_after) < RELATIVE


def _centred(features: Tensor) -> Tensor:
    return features - features.mean(dim=(2, 3), keepdim=True)


@pytest.mark.parametrize("kind", ["features", "features times gradients"])
def test_eigen_cams_projection_is_the_peers_on_centred_features(kind: str) -> None:
    """The peer centres each channel first, which the paper does not; apart from that, up to a sign."""
    tape = Tape(_model("5"), Batch(("a", "b"), _images(), CHOSEN))
    (layer,) = tape.layers
    features = tape.activations(layer)
    if kind != "features":
        features = features * tape.gradient(Logit(), layer)
    peer = torch.from_numpy(peer_svd.get_2d_projection(features.numpy()))
    ours = projected(_centred(features))
    sign = (peer * ours).sum(dim=(1, 2), keepdim=True).sign()
    assert _off(sign * ours, peer) < RELATIVE
    assert _off(projected(features), peer) > 0.1
    assert _off(-projected(features), peer) > 0.1


def test_the_peers_sign_is_an_accident() -> None:
    """The same channels in another order turn the peer's map round, about every other time; ours stays."""
    tape = Tape(_model("5"), Batch(("a", "b"), _images(), CHOSEN))
    features = tape.activations(tape.layers[0]).double()
    noise = torch.Generator().manual_seed(63)
    signs, first = [], torch.from_numpy(peer_svd.get_2d_projection(features.numpy()))
    for _ in range(20):
        moved = features[:, torch.randperm(features.shape[1], generator=noise)]
        again = torch.from_numpy(peer_svd.get_2d_projection(moved.numpy()))
        signs += (first * again).sum(dim=(1, 2)).sign().tolist()
        assert _off(projected(moved), projected(features)) < 1e-9
    assert {-1.0, 1.0} == set(signs)


@each_target
@pytest.mark.parametrize("gamma", [0.6, 1.0])
def test_finer_cam_with_one_reference_is_the_peers(gamma: float, name: str) -> None:
    """There is nothing to weigh then; the peer knows the logit alone, so that is what the probability's is not."""
    model, images = _model("5"), _images()
    predicted = model.logits(images).argmax(dim=1)
    nearest = similar(model.logits(images), predicted, 1)[:, 0]
    pairs = zip(predicted.tolist(), nearest.tolist(), strict=True)
    targets = [peer_targets.FinerWeightedTarget(c, [d], gamma) for c, d in pairs]
    off = _off(
        _maps(FinerCam(gamma=gamma, references=1), model, name, images, predicted),
        _peer_cam("GradCAM", model, images, targets),
    )
    assert off < RELATIVE if name == "logit" else off > 0.1


def test_the_peers_finer_cam_differentiates_its_weights() -> None:
    """With more than one reference it explains a mean whose weights, the probabilities, move with the image."""
    model, images = _model("5"), _images()
    logits = model.logits(images)
    predicted = logits.argmax(dim=1)
    chosen = similar(logits, predicted, 3)
    rows = list(zip(predicted.tolist(), chosen.tolist(), logits.softmax(dim=1), strict=True))
    peer = _peer_cam("GradCAM", model, images, [peer_targets.FinerWeightedTarget(c, d, 0.6) for c, d, _ in rows])

    def held(c: int, others: list[int], p: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda z: z[c] - 0.6 * (p[others] / p[others].sum() * z[others]).sum()

    def mean(c: int, others: list[int], _p: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda z: z[c] - 0.6 * z[others].mean()

    held_fast, plain = (_peer_cam("GradCAM", model, images, [make(*row) for row in rows]) for make in (held, mean))
    ours = _maps(FinerCam(), model, "logit", images, predicted)
    assert _off(ours, plain) < RELATIVE
    assert _off(peer, held_fast) > 1e-3
    assert _off(peer, plain) > 1e-3


def _peer_parts(net: nn.Module, images: Images, targets: Targets) -> tuple[Tensor, dict[int, Tensor]]:
    """What the peer's FullGrad is made of, before it takes magnitudes: input times gradient, and biases by side."""
    # Its list of layers is ignored, with a line on stdout.
    with peer_cams.FullGrad(model=net, target_layers=[]) as cam:
        leaf = images.clone().requires_grad_()
        cam.activations_and_grads(leaf).gather(1, targets[:, None]).sum().backward()
        assert leaf.grad is not None
        placed: dict[int, Tensor] = {}
        for bias, gradient in zip(cam.bias_data, cam.activations_and_grads.gradients, strict=True):
            part = (torch.from_numpy(bias)[:, None, None] * gradient).sum(dim=1)
            placed[part.shape[1]] = placed.get(part.shape[1], torch.zeros_like(part)) + part
        return (leaf * leaf.grad).detach().sum(dim=1), placed


def _our_parts(model: Classifier, images: Images, targets: Targets) -> tuple[Tensor, dict[int, Tensor]]:
    names = tuple(str(i) for i in range(len(images)))
    biases, tape = Biases(len(images)), Tape(model, Batch(names, images, targets), layers=())
    with biases:
        _ = tape.logits
    assert biases.reason is None
    with biases.shared() as kept:
        gradient = tape.direction_gradient(Logit(), INPUT)
    return (images * gradient).sum(dim=1), {rows: part for (rows, _), part in kept.placed.items()}


def test_full_grad_is_made_of_the_same_parts_as_the_peers() -> None:
    """Where all biases are those of convolutions and of batch norms with weights: a network of ReLUs."""
    images = _images()
    ours, peers = (_our_parts(_model("5"), images, CHOSEN), _peer_parts(_net(), images, CHOSEN))
    assert _off(ours[0], peers[0]) < RELATIVE
    assert ours[1].keys() == peers[1].keys() == {16, 8}
    for side, part in ours[1].items():
        assert _off(part, peers[1][side]) < RELATIVE


def test_the_peers_full_grad_leaves_out_a_batch_norm_without_weights() -> None:
    """It asks for a bias by that name, and misses the running mean."""
    net, images = _net(), _images()
    norm = nn.BatchNorm2d(6, affine=False).eval()
    norm.running_mean.copy_(net[1].running_mean)
    net[1] = norm
    model = wrap(copy.deepcopy(net), input_size=(3, 16, 16), head="softmax")
    whole = model.logits(images).gather(1, CHOSEN[:, None])[:, 0] - net[-1].bias.detach()[CHOSEN]
    peers, ours = _peer_parts(net, images, CHOSEN), _our_parts(model, images, CHOSEN)
    sums = [
        parts[0].sum(dim=(1, 2)) + sum(part.sum(dim=(1, 2)) for part in parts[1].values()) for parts in (ours, peers)
    ]
    torch.testing.assert_close(sums[0].float(), whole, rtol=1e-4, atol=1e-5)
    assert bool(((sums[1] - whole).abs() > 0.01 * whole.abs()).all())


@pytest.mark.slow
def test_the_peers_full_grad_misses_what_relu6_cuts(lite0: Classifier, imagenet_paths: tuple[Path, ...]) -> None:
    """On the demo network its parts do not add up to the logit, and nothing is said; ours do, or there is no map."""
    assert lite0.preprocess is not None
    images = torch.stack([lite0.preprocess(Image.open(path).convert("RGB")) for path in imagenet_paths[:2]])
    logits = lite0.logits(images)
    targets = logits.argmax(dim=1)
    bias = lite0.net.get_submodule("_fc").bias.detach()[targets]
    whole = logits.gather(1, targets[:, None])[:, 0] - bias
    peers, ours = _peer_parts(copy.deepcopy(lite0.net), images, targets), _our_parts(lite0, images, targets)
    sums = [
        parts[0].sum(dim=(1, 2)) + sum(part.sum(dim=(1, 2)) for part in parts[1].values()) for parts in (ours, peers)
    ]
    torch.testing.assert_close(sums[0].float(), whole, rtol=1e-4, atol=1e-4)
    assert bool(((sums[1] - whole).abs() > 0.1 * whole.abs()).all())
    (found,) = FullGrad().maps(Tape(lite0, Batch(("a", "b"), images, targets)), [Logit()])
    assert not isinstance(found, Undefined)
    torch.testing.assert_close(found.double().sum(dim=(1, 2)).float(), whole, rtol=1e-4, atol=1e-4)


def _peer_score_cam(model: Classifier, name: str, images: Images) -> Tensor:
    targets = [getattr(peer_targets, TARGETS[name])(c) for c in CHOSEN.tolist()]
    net = copy.deepcopy(model.net)
    assert model.layer is not None
    layer = net.get_submodule(model.layer.name)
    with peer_cams.ScoreCAM(model=net, target_layers=[layer]) as cam:
        cells = model.run(images, [model.layer], "layer").outputs[model.layer].detach()
        return torch.as_tensor(cam.get_cam_image(images, layer, targets, cells.numpy(), None, False))


@each_target
def test_score_cam_is_pytorch_grad_cams(name: str) -> None:
    """The peer leaves the zero image's score out, which its softmax over the channels does not see."""
    model, images = _model("2"), _images()
    assert _off(_maps(ScoreCam(), model, name, images), _peer_score_cam(model, name, images)) < RELATIVE


def test_score_cam_enlarges_by_areas_and_the_peer_by_corners() -> None:
    """The peer puts the middle of a corner cell on the corner pixel, so that every mask is stretched a little."""
    model, images = _model("5"), _images()
    assert 1e-3 < _off(_maps(ScoreCam(), model, "logit", images), _peer_score_cam(model, "logit", images)) < 0.1


@each_target
def test_ablation_cam_is_pytorch_grad_cams_up_to_its_division(name: str) -> None:
    """The peer divides each fall by the score; times that it is the same."""
    model, images = _model("5"), _images()
    targets = [getattr(peer_targets, TARGETS[name])(c) for c in CHOSEN.tolist()]
    net = copy.deepcopy(model.net)
    with torch.no_grad(), peer_cams.AblationCAM(model=net, target_layers=[net[5]], batch_size=8) as cam:
        cam.activations_and_grads(images)  # the peer keeps its activations for what follows
        cells = model.net[:6](images).detach()
        weights = torch.as_tensor(cam.get_cam_weights(images, net[5], targets, cells.numpy(), None))
    logits = model.net(images).detach()
    values = logits if name == "logit" else logits.softmax(dim=1)
    score = values.gather(1, CHOSEN[:, None])
    expected = torch.einsum("bk,bkhw->bhw", weights * score, cells)
    assert _off(_maps(AblationCam(), model, name, images), expected) < RELATIVE
