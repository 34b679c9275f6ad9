"""The networks of the zoos have nothing that a graph scan tells of."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torchvision
from torch import nn
from transformers import SwinConfig, SwinForImageClassification, ViTConfig, ViTForImageClassification

from fukusen.checks import GraphScan, Sight
from fukusen.checks.graph import KINDS
from fukusen.models import wrap

CLASSES = 10
ZOO = {"head": "softmax"}
"""Some heads start with zeros, of which nobody can tell what they are."""


def _found(net: nn.Module, size: tuple[int, int, int], **head: Any) -> list[Any]:
    """What a scan tells of a network."""
    measured = GraphScan().measure(Sight(wrap(net.eval(), input_size=size, **head), None, {}, {}))
    assert {one.against for one in measured} == {*KINDS}
    return [one for one in measured if one.value != 0]


QUICK = ("resnet18", "mobilenet_v3_small")
TORCHVISION = (
    *(
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
        "vgg11",
        "vgg11_bn",
        "alexnet",
        "densenet121",
        "mobilenet_v2",
        "efficientnet_b0",
        "efficientnet_v2_s",
    ),
    *("convnext_tiny", "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t", "regnet_y_400mf", "mnasnet0_5"),
)
SMALL = ("vit_tiny_patch16_224", "convnext_atto")
TIMM = (
    *("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "convnextv2_atto", "mobilenetv3_small_100"),
    *("mixer_s32_224", "deit_tiny_distilled_patch16_224", "beit_base_patch16_224", "davit_tiny"),
    *("eva02_tiny_patch14_224", "fastvit_t8", "tf_efficientnet_b0", "eca_nfnet_l0", "resnetv2_50x1_bit"),
    *("xcit_nano_12_p16_224", "coat_tiny", "cait_xxs24_224", "mobileone_s0", "edgenext_xx_small", "volo_d1_224"),
    *("convit_tiny", "crossvit_tiny_240", "tnt_s_legacy_patch16_224", "halonet26t", "focalnet_tiny_srf"),
    *("efficientnet_lite0", "mobilevit_xxs", "levit_128s", "nfnet_l0"),
)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in TORCHVISION)])
def test_torchvisions_networks_have_nothing(name: str) -> None:
    assert _found(torchvision.models.get_model(name, weights=None), (3, 224, 224), **ZOO) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("googlenet", 224), ("inception_v3", 299)])
def test_networks_with_outputs_on_the_way_have_nothing(name: str, side: int) -> None:
    net = torchvision.models.get_model(name, weights=None, init_weights=True)
    assert _found(net, (3, side, side), **ZOO) == []


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in TIMM)])
def test_timms_networks_have_nothing(name: str) -> None:
    net = timm.create_model(name, pretrained=False)
    assert _found(net, net.default_cfg["input_size"], **ZOO) == []


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_networks_have_nothing(attention: str) -> None:
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    vit = ViTConfig(**sizes, image_size=64, patch_size=16, num_labels=CLASSES, attn_implementation=attention)
    swin = SwinConfig(image_size=64, embed_dim=24, depths=[1, 1], num_heads=[2, 4], window_size=4, num_labels=CLASSES)
    assert _found(ViTForImageClassification(vit), (3, 64, 64)) == []
    assert _found(SwinForImageClassification(swin), (3, 64, 64)) == []
