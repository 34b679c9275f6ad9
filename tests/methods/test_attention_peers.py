"""Class activation maps of tokens beside the peer's, on ViT, DeiT and Swin."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fukusen.arrays import Batch
from fukusen.methods import methods
from fukusen.models import Classifier, wrap
from fukusen.scores import scores
from fukusen.tape import Tape

TARGETS = (2, 0)


def _timm(name: str, size: int, **sizes: Any) -> Classifier:
    timm = pytest.importorskip("timm")
    torch.manual_seed(33)
    net = timm.create_model(name, num_classes=7, img_size=size, **sizes).eval()
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(1.5)  # as drawn, every token attends to every other alike
    return wrap(net, input_size=(3, size, size), head="softmax")


SWIN = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "patch_size": 4}
PEERS: dict[str, tuple[Callable[[], Classifier], int, Callable[[Tensor], Tensor]]] = {
    "vit": (
        lambda: _timm("vit_tiny_patch16_224", 64, depth=4),
        64,
        lambda out: out[:, 1:].reshape(len(out), 4, 4, -1).permute(0, 3, 1, 2),
    ),
    "deit": (
        lambda: _timm("deit_tiny_distilled_patch16_224", 64, depth=4),
        64,
        lambda out: out[:, 2:].reshape(len(out), 4, 4, -1).permute(0, 3, 1, 2),
    ),
    "swin": (
        lambda: _timm("swin_tiny_patch4_window7_224", 64, **SWIN),
        64,
        lambda out: out.permute(0, 3, 1, 2),
    ),
}
CAMS = {
    "grad_cam": "GradCAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
}


@pytest.fixture(scope="module")
def subjects() -> dict[str, tuple[Classifier, Tensor]]:
    """The networks, each with two images of noise."""
    noise = torch.Generator().manual_seed(34)
    return {name: (make(), torch.randn(2, 3, size, size, generator=noise)) for name, (make, size, _) in PEERS.items()}


@pytest.mark.parametrize("network", PEERS)
@pytest.mark.parametrize("method", CAMS)
def test_cams_are_pytorch_grad_cams(subjects: dict[str, tuple[Classifier, Tensor]], method: str, network: str) -> None:
    """With its reshape_transform written by hand, which ours is not; Grad-CAM++ where the peer's constant is lost."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pytest.importorskip("pytorch_grad_cam", exc_type=ImportError)
    model, images = subjects[network]
    scale = 1e6 if method == "grad_cam_plus_plus" else 1.0
    net = copy.deepcopy(model.net)
    with torch.no_grad():
        for head in (
            [net.head.fc] if network == "swin" else [net.head, net.head_dist] if network == "deit" else [net.head]
        ):
            head.weight.mul_(scale)
            head.bias.mul_(scale)
    assert model.layer is not None
    layer = net.get_submodule(model.layer.name)
    targets = [lambda output, c=c: output[c] for c in TARGETS]
    with getattr(peer, CAMS[method])(model=net, target_layers=[layer], reshape_transform=PEERS[network][2]) as cam:
        outputs = cam.activations_and_grads(images)
        sum(target(output) for target, output in zip(targets, outputs, strict=True)).backward()
        kept = (cam.activations_and_grads.activations[0].numpy(), cam.activations_and_grads.gradients[0].numpy())
        expected = torch.from_numpy(cam.get_cam_image(images, layer, targets, *kept, False))
    scaled = wrap(net, input_size=model.input_shape, head="softmax", layer=str(model.layer))
    tape = Tape(scaled, Batch(("a", "b"), images, torch.tensor(TARGETS)))
    (found,) = methods.build(method).maps(tape, [scores.build("logit")])
    assert isinstance(found, Tensor)
    assert found.shape == expected.shape
    for own, other in zip(found.double(), expected.double(), strict=True):
        assert float(other.max()) > 0
        assert float((own - other).abs().max() / other.abs().max()) < 1e-4
