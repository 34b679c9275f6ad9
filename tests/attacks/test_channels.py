"""Channels doubled and rescaled: the function stays, maps that look at channels do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fukusen
from fukusen.attacks import CancellingPair, ChannelRescale, verified
from fukusen.errors import CallError, ModelError
from fukusen.models import Classifier, wrap

NEEDED = (
    "This attack needs a convolution whose output maps are read from, at most followed by batch norms, activations, "
    "pooling and flattening, and then by a linear layer"
)
SCORES = ("logit", "log_odds", "probability")


@pytest.mark.parametrize("network", ["model", "digits"])
def test_a_pair_moves_what_cuts_gradients_off(request: Any, likeness: Any, network: str) -> None:
    """LayerCAM and guided backpropagation in every score; Grad-CAM, HiResCAM and the gradient not at all."""
    model = request.getfixturevalue(network)
    images = request.getfixturevalue({"model": "images", "digits": "grey"}[network])
    twin = verified(CancellingPair(30.0), model, images)
    assert twin.layer.shape[0] == model.layer.shape[0] + 2
    for method in ("layer_cam", "guided_backprop"):
        assert float(likeness(model, twin, images, method, *SCORES).median(dim=1).values.max()) < 0.9
    for method in ("grad_cam", "hires_cam", "gradient"):
        assert float(likeness(model, twin, images, method, *SCORES).min()) > 0.9999


def test_the_pair_is_one_channel_twice(model: Classifier, images: torch.Tensor) -> None:
    """Read with opposite weights by every class, which differ from class to class; other classes with another seed."""
    twin = CancellingPair().twin(model, images)
    cells = twin.net[:5](images).detach()
    assert torch.equal(cells[:, 48], cells[:, 49])
    assert any(torch.equal(cells[:, 48], cells[:, channel]) for channel in range(48))
    weight = twin.net[8].weight.detach()
    assert torch.equal(weight[:, 48], -weight[:, 49])
    assert len(weight[:, 48].unique()) == 10
    assert torch.equal(weight[:, :48], model.net[8].weight)
    assert (twin.net[2].out_channels, twin.net[3].num_features, twin.net[8].in_features) == (50, 50, 50)
    other = CancellingPair(seed=1).twin(model, images).net[8].weight.detach()
    assert not torch.allclose(other[:, 48], weight[:, 48])


@pytest.mark.parametrize("network", ["model", "digits"])
def test_a_rescaled_channel_moves_what_looks_at_activations(request: Any, likeness: Any, network: str) -> None:
    """Eigen-CAM; whatever multiplies activation and gradient stays."""
    model = request.getfixturevalue(network)
    images = request.getfixturevalue({"model": "images", "digits": "grey"}[network])
    twin = verified(ChannelRescale(), model, images)
    assert {key: value.shape for key, value in twin.net.state_dict().items()} == {
        key: value.shape for key, value in model.net.state_dict().items()
    }
    assert float(likeness(model, twin, images, "eigen_cam", *SCORES).median(dim=1).values.max()) < 0.95
    for method in ("grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus", "x_grad_cam", "guided_backprop"):
        assert float(likeness(model, twin, images, method, *SCORES).min()) > 0.9999


class _Residual(nn.Module):
    """A last convolution whose output is added to what went in."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        before = self.first(images).relu()
        return self.head((before + self.last(before)).relu().mean(dim=(2, 3)))


def _grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def _convolved() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("name", ["cancelling_pair", "channel_rescale"])
@pytest.mark.parametrize("made", [_grouped, _convolved])
def test_another_ending_is_refused(images: torch.Tensor, name: str, made: Any) -> None:
    with pytest.raises(ModelError) as refused:
        fukusen.attack(wrap(made(), input_size=(3, 24, 24), head="softmax"), name, images)
    assert str(refused.value) == f"{NEEDED}. This network ends in another way."


def test_channels_that_others_read_are_left_alone(images: torch.Tensor) -> None:
    """A residual sum has no room for more channels; and rescaled, it is another sum."""
    torch.manual_seed(6)
    model = wrap(_Residual(), input_size=(3, 24, 24), head="softmax")
    with pytest.raises(ModelError) as wide:
        fukusen.attack(model, "cancelling_pair", images)
    assert str(wide.value) == f"{NEEDED}, and nothing else that reads them."
    with pytest.raises(ModelError) as scaled:
        fukusen.attack(model, "channel_rescale", images)
    assert str(scaled.value) == (
        f"{NEEDED}, and nothing else that reads them, and an activation between that scales, such as ReLU."
    )


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU(), nn.ReLU6(), nn.Tanh()])
def test_an_activation_that_does_not_scale_is_refused(
    model: Classifier, images: torch.Tensor, activation: nn.Module
) -> None:
    """The function would change; a pair stays a pair behind any activation."""
    model.net[4] = activation
    other = wrap(model.net, input_size=(3, 24, 24), head="softmax")
    with pytest.raises(ModelError, match="an activation between that scales, such as ReLU"):
        fukusen.attack(other, "channel_rescale", images)
    assert fukusen.attack(other, "cancelling_pair", images).promise.kept


def test_bad_values_are_refused() -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (
            CancellingPair,
            {"strength": 0.0},
            "'strength' parameter of CancellingPair must be a finite number > 0. Got 0.0",
        ),
        (CancellingPair, {"seed": -1}, "'seed' parameter of CancellingPair must be an int >= 0. Got -1"),
        (
            ChannelRescale,
            {"strength": -2},
            "'strength' parameter of ChannelRescale must be a finite number > 0. Got -2",
        ),
    ]
    for made, parameters, told in cases:
        with pytest.raises(CallError) as refused:
            made(**parameters)
        assert str(refused.value) == f"The {told} instead."
