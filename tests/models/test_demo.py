"""The packaged network does what it was published to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fukusen.errors import CallError
from fukusen.models import Classifier, Layer, load, open_picture


@pytest.fixture(scope="module")
def demo() -> Classifier:
    return load("demo")


def test_what_is_understood(demo: Classifier) -> None:
    assert demo.spec == "demo"
    assert demo.layer == Layer("_bn1", 0, "channels_first", (1280, 7, 7))
    assert (demo.head.kind, demo.head.assumed) == ("softmax", False)
    assert (len(demo.classes), demo.classes[281]) == (1000, "tabby")
    assert demo.input_shape == (3, 224, 224)
    assert demo.notes == ()


def test_preprocessing_is_the_published_recipe(demo: Classifier, photographs: tuple[Image.Image, ...]) -> None:
    assert demo.preprocess is not None
    for picture in photographs:
        side = min(picture.size)
        left, upper = (picture.width - side) / 2, (picture.height - side) / 2
        square = picture.resize((224, 224), Image.Resampling.BICUBIC, box=(left, upper, left + side, upper + side))
        expected = ((np.asarray(square).astype(np.float32) - 127) / 128).transpose(2, 0, 1)
        torch.testing.assert_close(demo.preprocess(picture), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_it_knows_most_photographs(demo: Classifier, imagenet_paths: tuple[Path, ...]) -> None:
    assert demo.preprocess is not None
    images = torch.stack([demo.preprocess(open_picture(path)) for path in imagenet_paths])
    labels = torch.tensor([int(path.stem.rsplit("_", 1)[1]) for path in imagenet_paths])
    assert len(labels) == 20
    assert (demo.logits(images).argmax(dim=1) == labels).float().mean() >= 0.8


def test_weights_of_its_own() -> None:
    with pytest.raises(CallError, match=r"The demo model has its own weights\. For others name their architecture"):
        load("demo", weights="other.safetensors")
