"""One batch through the house: what is explained in a faster copy, and what is looked at in the model itself."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Images
from fukusen.attacks import StopGradient
from fukusen.auditing import examine, make_plan
from fukusen.auditing.engine import Examined
from fukusen.auditing.plan import Tasks
from fukusen.models import Classifier, wrap
from fukusen.models.engine import Engine

NAMES = ("a", "b")


class _Net(nn.Module):
    """A convolution and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Conv2d(3, 6, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).sigmoid().mean((2, 3)))


@pytest.fixture
def model() -> Classifier:
    return wrap(_Net().eval(), input_size=(3, 10, 10), head="softmax")


@pytest.fixture
def images() -> Images:
    return torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(4))


def _examined(model: Classifier, images: Images, *, probed: bool) -> Examined:
    plan = make_plan("quick", methods_asked=["grad_cam", "gradient"])
    return examine(model, Batch(NAMES, images), Tasks(plan, costly=False, probed=probed))


def _largest(found: Examined, check: str) -> float:
    values = [
        one.value for one in found.measurements if one.check == check and one.layer and isinstance(one.value, float)
    ]
    assert values
    return max(values)


def test_gradients_are_held_against_the_model_itself(model: Classifier, images: Images) -> None:
    """A copy that had lost a manipulation on the way would not hide it: the probed images are looked at as given."""
    bent = StopGradient(strength=50).twin(model, images)
    own = {one.name: getattr(bent, one.name) for one in fields(Classifier)}
    straight = Engine(**own, given=bent, fast=model_named_as(model, bent), changed=frozenset())
    assert _largest(_examined(model, images, probed=True), "gradient_truth") < 1e-4
    assert _largest(_examined(bent, images, probed=True), "gradient_truth") > 0.1
    assert _largest(_examined(straight, images, probed=True), "gradient_truth") > 0.1


def model_named_as(model: Classifier, bent: Classifier) -> Classifier:
    """The honest network under the names of the bent one's modules."""
    own = {one.name: getattr(bent, one.name) for one in fields(Classifier)}
    return Classifier(**{**own, "net": _Holder(model.net)})


class _Holder(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


def test_images_without_finite_logits_fail_and_the_others_are_examined(model: Classifier, images: Images) -> None:
    alone = _examined(model, images, probed=False)
    images = images.clone()
    images[0, 0, 0, 0] = torch.nan
    found = _examined(model, images, probed=False)
    assert found.items == ("b",)
    assert found.failures == {"a": "the model returns NaN or infinite numbers for it"}
    assert found.predicted == alone.predicted[1:]
    torch.testing.assert_close(
        torch.as_tensor(found.maps["gradient", "logit"]), torch.as_tensor(alone.maps["gradient", "logit"])[1:]
    )


def test_one_forward_pass_serves_the_predictions_and_the_maps(model: Classifier, images: Images) -> None:
    passes: list[int] = []
    model.net.head.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    _examined(model, images, probed=False)
    assert passes == [2]


def test_what_the_shift_is_held_against_is_measured_with_it(model: Classifier, images: Images) -> None:
    """At the input: the gradient of the logit's distance from the mean, by autograd."""
    leaf = images.clone().requires_grad_()
    logits = model.net(leaf)
    own = logits.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0] - logits.mean(dim=1)
    expected = torch.autograd.grad(own.sum(), leaf)[0].flatten(1).norm(dim=1)
    found = _examined(model, images, probed=False).measurements
    told = {one.item: one.value for one in found if one.check == "telling_gradient" and one.layer == "input"}
    assert told == pytest.approx(dict(zip(NAMES, expected.tolist(), strict=True)), rel=1e-4)
    independent = wrap(_Net().eval(), input_size=(3, 10, 10), head="sigmoid")
    without = _examined(independent, images, probed=False).measurements
    assert "telling_gradient" not in {one.check for one in without}
