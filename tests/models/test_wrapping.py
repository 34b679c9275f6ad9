"""Any module made a classifier: understood, left as found, and every misfit said in one sentence."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fukusen.errors import CallError, ModelError
from fukusen.models import Classifier, wrap
from fukusen.models.preprocessing import CenterCrop

SIZE = (3, 16, 16)


def _net(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


def _state(net: nn.Module) -> dict[str, Any]:
    return {
        "weights": {name: value.clone() for name, value in net.state_dict().items()},
        "flags": [module.training for module in net.modules()],
        "wanted": [value.requires_grad for value in net.parameters()],
        "gradients": [value.grad for value in net.parameters()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()],
    }


def _assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    torch.testing.assert_close(before.pop("weights"), after.pop("weights"), rtol=0, atol=0)
    assert before == after


def test_the_network_is_left_as_it_was_found() -> None:
    net = _net().train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[2].register_forward_hook(lambda _module, _inputs, _output: None)
    before = _state(net)
    model = wrap(net, input_size=SIZE)
    model.run(torch.randn(2, *SIZE), [model.layer] if model.layer else [], "input")
    assert model.net is net
    _assert_same(before, _state(net))


def test_the_network_is_left_as_it_was_found_when_it_raises() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = _net()

        def forward(self, images: Tensor) -> Tensor:
            self.body(images)
            raise RuntimeError("broken\nin two lines")

    net = Failing().train()
    before = _state(net)
    with pytest.raises(ModelError) as caught:
        wrap(net, input_size=SIZE)
    _assert_same(before, _state(net))
    assert str(caught.value) == (
        "The network cannot be run on images of shape (3, 16, 16): broken in two lines. Give the preprocessing that "
        "belongs to it (preprocess=...), or its input size (input_size=(channels, rows, columns))."
    )


def test_a_network_in_training_mode_is_evaluated() -> None:
    images = torch.randn(4, *SIZE)
    training, evaluated = wrap(_net().train(), input_size=SIZE), wrap(_net().eval(), input_size=SIZE)
    assert torch.equal(training.logits(images), evaluated.logits(images))
    assert training.net.training


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_wraps_where_gradients_are_off(mode: Callable[[], Any]) -> None:
    net = _net()
    with mode():
        model = wrap(net, input_size=SIZE)
        capture = model.run(torch.randn(1, *SIZE), reach="input")
    assert str(model.layer) == "1"
    assert len(model.notes) == 1
    assert capture.logits.requires_grad


class _Row(NamedTuple):
    logits: Tensor
    features: Tensor


class _Output(OrderedDict[str, Tensor]):
    """What transformers return: a dict whose items are attributes, too."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]


RETURNS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda row: row,
    "model output": lambda row: _Output(loss=row.mean(), logits=row),
    "dict": lambda row: {"logits": row},
    "segmentation-like dict": lambda row: {"aux": row * 2, "out": row},
    "tuple": lambda row: (row, row * 2),
    "named tuple": lambda row: _Row(row, row * 2),
    "list": lambda row: [row],
}


class _Returning(nn.Module):
    def __init__(self, how: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body = _net().eval()
        self.how = how

    def forward(self, images: Tensor) -> Any:
        return self.how(self.body(images))


@pytest.mark.parametrize("how", RETURNS.values(), ids=list(RETURNS))
def test_every_usual_kind_of_output(how: Callable[[Tensor], Any]) -> None:
    images = torch.randn(2, *SIZE)
    model = wrap(_Returning(how), input_size=SIZE)
    assert torch.equal(model.logits(images), wrap(_net().eval(), input_size=SIZE).logits(images))


BAD_RETURNS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "other dict": (lambda row: {"scores": row, "boxes": row}, "a dict with 'scores', 'boxes'"),
    "nothing": (lambda _: None, "a NoneType"),
    "one number": (lambda row: row[:, 0], "a tensor of shape (4,) and type float32"),
    "map": (lambda row: row[..., None, None], "a tensor of shape (4, 3, 1, 1) and type float32"),
    "labels": (lambda row: row.argmax(1, keepdim=True), "a tensor of shape (4, 1) and type int64"),
}


@pytest.mark.parametrize(("how", "told"), BAD_RETURNS.values(), ids=list(BAD_RETURNS))
def test_other_outputs_are_described(how: Callable[[Tensor], Any], told: str) -> None:
    with pytest.raises(ModelError) as caught:
        wrap(_Returning(how), input_size=SIZE)
    assert str(caught.value) == (
        "A classifier must return one row of numbers an image: floats of shape (b, k), alone, first in a tuple, or as "
        f"'logits'. This one returns {told}. Wrap it in a module that returns such rows."
    )


def test_one_row_for_all_images_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        wrap(_Returning(lambda row: row[:1]), input_size=SIZE)
    assert str(caught.value) == "The network returns 1 rows for 4 images. It must return one an image."


def test_weights_that_are_not_finite() -> None:
    net = _net()
    with torch.no_grad():
        net[6].weight[0, 0] = float("nan")
    with pytest.raises(ModelError) as caught:
        wrap(net, input_size=SIZE)
    assert str(caught.value) == (
        "The network returns NaN or infinite numbers for ordinary images. Its weights are not finite: check the file."
    )


def test_code_that_is_not_finite() -> None:
    with pytest.raises(ModelError, match=r"ordinary images\. Check its code and its preprocessing\."):
        wrap(_Returning(lambda row: row / 0), input_size=SIZE)


def test_wrong_input_size() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    with pytest.raises(ModelError) as caught:
        wrap(net)
    assert str(caught.value) == (
        "The network cannot be run on images of shape (3, 224, 224): mat1 and mat2 shapes cannot be multiplied "
        "(4x150528 and 768x3). Give the preprocessing that belongs to it (preprocess=...), or its input size "
        "(input_size=(channels, rows, columns))."
    )


def test_classes() -> None:
    assert wrap(_net(), classes=("a", "b", "c"), input_size=SIZE).classes == ("a", "b", "c")
    assert wrap(_net(), input_size=SIZE).classes == ("class 0", "class 1", "class 2")
    assert len(wrap(_net(1), head="one_logit", input_size=SIZE).classes) == 2
    assert len(wrap(_net(1), head="sigmoid", input_size=SIZE).classes) == 1


@pytest.mark.parametrize(("classes", "got"), [(["a", "b"], "2"), ("abc", "'abc'"), ([], "0")])
def test_wrong_number_of_classes(classes: Any, got: str) -> None:
    with pytest.raises(CallError) as caught:
        wrap(_net(), classes=classes, input_size=SIZE)
    assert str(caught.value) == (
        f"The 'classes' parameter of wrap must be a list of 3 names, one a class of the network. Got {got} instead."
    )


NEEDED = "preprocess must make a float tensor of shape (c, h, w) of a PIL picture. "


def _raising(picture: Image.Image) -> Tensor:
    raise KeyError("crop")


BAD_PREPROCESS: dict[str, tuple[Callable[[Image.Image], Any], str]] = {
    "array": (lambda _: np.zeros((3, 16, 16)), NEEDED + "It made a ndarray."),
    "batch": (
        lambda _: torch.zeros(1, 3, 16, 16),
        NEEDED + "It made one of shape (1, 3, 16, 16) and type float32.",
    ),
    "bytes": (
        lambda _: torch.zeros(3, 16, 16, dtype=torch.uint8),
        NEEDED + "It made one of shape (3, 16, 16) and type uint8.",
    ),
    "nan": (lambda _: torch.full((3, 16, 16), torch.nan), NEEDED + "It made one with NaN or infinite values."),
    "raises": (_raising, NEEDED + "It raised KeyError: 'crop'."),
    "random": (
        lambda _: torch.rand(3, 16, 16),
        (
            "preprocess must make the same of the same picture each time. It made two different tensors: take random "
            "augmentation out of it."
        ),
    ),
    "any size": (
        lambda picture: torch.zeros(3, picture.height, picture.width),
        (
            "preprocess must make tensors of one shape of pictures of any size. It made (3, 256, "
            "256) and (3, 240, 320). "
            "Crop or resize to one size in it, or give input_size=(channels, rows, columns) where all pictures have it."
        ),
    ),
}


@pytest.mark.parametrize(("preprocess", "message"), BAD_PREPROCESS.values(), ids=list(BAD_PREPROCESS))
def test_bad_preprocessing(preprocess: Callable[[Image.Image], Any], message: str) -> None:
    with pytest.raises(CallError) as caught:
        wrap(_net(), preprocess)
    assert str(caught.value) == message


def test_a_preprocessing_that_keeps_the_size() -> None:
    def scaled(picture: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1) / 255)

    assert wrap(_net(), scaled, input_size=(3, 16, 20)).input_shape == (3, 16, 20)


@pytest.mark.parametrize("size", [(224, 224), (3, 0, 8), (3, True, 8)])
def test_bad_input_size(size: Any) -> None:
    with pytest.raises(CallError) as caught:
        wrap(_net(), input_size=size)
    assert str(caught.value) == (
        "The 'input_size' parameter of wrap must be three integers >= 1: (channels, rows, columns). "
        f"Got {size!r} instead."
    )


def test_input_size_and_preprocessing_disagree() -> None:
    with pytest.raises(CallError) as caught:
        wrap(_net(), CenterCrop(32), input_size=SIZE)
    assert str(caught.value) == (
        "The 'input_size' parameter of wrap must be what preprocess makes, (3, 32, 32). Got (3, 16, 16) instead."
    )


def test_device_copies() -> None:
    net = _net()
    model = wrap(net, input_size=SIZE, device="cpu")
    assert model.net is not net
    with torch.no_grad():
        net[6].weight.zero_()
    assert model.logits(torch.randn(1, *SIZE)).abs().max() > 0


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(CallError, match=r"^The 'device' parameter of wrap must be a device that torch can use here"):
        wrap(_net(), input_size=SIZE, device=device)


def test_a_network_that_cannot_be_copied() -> None:
    class Stuck(nn.Sequential):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("cannot be copied")

    net = Stuck(*_net())
    with pytest.raises(ModelError, match=r"The network cannot be copied to cpu: cannot be copied\. Move it there"):
        wrap(net, input_size=SIZE, device="cpu")
    with pytest.raises(ModelError, match=r"The network cannot be copied to float64: cannot be copied\."):
        wrap(net, input_size=SIZE).in_double()


def test_what_was_assumed_is_noted() -> None:
    model = wrap(_net())
    assert model.preprocess == CenterCrop(224)
    assert model.notes == (
        (
            "No preprocessing was given; that of most ImageNet networks (224 pixels, mean and std of ImageNet) was "
            "assumed."
        ),
        (
            "The outputs look like logits; classes that exclude each other (softmax) were assumed. For independent "
            "labels say head='sigmoid'."
        ),
    )
    assert wrap(_net(), CenterCrop(16), head="softmax").notes == ()
    assert wrap(_one_logit(), CenterCrop(16)).notes == (
        "The single output was taken as the logit of the second of two classes.",
    )


def _one_logit() -> nn.Module:
    net = _net(1)
    with torch.no_grad():
        net[6].bias.fill_(-3)
    return net


def test_grey_networks_get_grey_pictures() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert wrap(net, head="softmax").input_shape == (1, 224, 224)


def test_answers_that_change_are_noted() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = _net()

        def forward(self, images: Tensor) -> Tensor:
            return self.body(images) + torch.rand(len(images), 1)

    assert any("change from call to call" in note for note in wrap(Noisy(), head="softmax", input_size=SIZE).notes)


def test_wrappers_for_speed_are_taken_off() -> None:
    net = _net()
    assert wrap(nn.DataParallel(net), input_size=SIZE).net is net


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_precision(dtype: torch.dtype) -> None:
    images = torch.randn(2, *SIZE)
    exact = wrap(_net().eval(), input_size=SIZE)
    model = wrap(_net().eval().to(dtype), input_size=SIZE)
    assert model.dtype == dtype
    assert model.logits(images).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(model.logits(images).float(), exact.logits(images), rtol=0, atol=0.05)
    assert str(model.layer) == "1"


def test_a_classifier_can_be_copied_and_pickled() -> None:
    images = torch.randn(2, *SIZE)
    model = wrap(_net().eval(), CenterCrop(16))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own bytes
        assert isinstance(twin, Classifier)
        assert twin.digest == model.digest
        assert torch.equal(twin.logits(images), model.logits(images))
