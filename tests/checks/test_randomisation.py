"""Maps on copies with random weights, against the same by hand in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fukusen.arrays import Images
from fukusen.attacks import CornerShift, StopGradient
from fukusen.checks import Randomisation, Sight
from fukusen.checks.dependence import NO_CAM
from fukusen.checks.randomisation import ALL, LAST, NO_HEAD, NOT_FOLLOWED
from fukusen.models import Classifier, wrap
from fukusen.records import Measurement, Value


def _named(found: list[Measurement]) -> dict[tuple[str | None, ...], Value]:
    return {(one.item, one.score, one.against): one.value for one in found}


def _hires_cam(net: nn.Sequential, image: torch.Tensor, target: int, score: str) -> torch.Tensor:
    """Activation times gradient, summed over the channels, by autograd."""
    cells = net[:5](image).detach().requires_grad_()
    logits = net[5:](cells)[0]
    others = torch.cat([logits[:target], logits[target + 1 :]])
    value = logits[target] - (others.logsumexp(0) if score == "log_odds" else 0)
    (slope,) = torch.autograd.grad(value, cells)
    return (slope * cells.detach()).sum(dim=1)[0]


def test_it_is_the_mean_cosine_with_both_copies(small: Classifier, images: Images, see: Callable[..., Sight]) -> None:
    """The head's weights are drawn with its own spread from the seed, once as they are and once negated."""
    found = _named(Randomisation(seed=3).measure(see(small, "hires_cam")))
    net = small.in_double().net
    spread = net[7].weight.detach().std(correction=0)
    drawn = torch.randn(10, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * spread
    for number, item in enumerate("abc"):
        image = images[number : number + 1].double()
        target = int(net(image).argmax())
        for score in ("logit", "log_odds"):
            cosines = []
            for sign in (1, -1):
                changed = copy.deepcopy(net)
                with torch.no_grad():
                    changed[7].weight.copy_(sign * drawn)
                    changed[7].bias.zero_()
                own, other = (_hires_cam(one, image, target, score).flatten() for one in (net, changed))
                cosines.append(float(own @ other / own.norm() / other.norm()))
            assert found[item, score, LAST] == pytest.approx(sum(cosines) / 2, abs=1e-4)
            assert -1 <= found[item, score, ALL] <= 1


def test_what_does_not_read_the_last_layer_stays(small: Classifier, images: Images, see: Callable[..., Sight]) -> None:
    """A shift in the logit's maps; an honest logit map turns around with the layer, and nothing is left."""
    honest = _named(Randomisation().measure(see(small, "hires_cam")))
    bent = _named(Randomisation().measure(see(CornerShift(1e4).twin(small, images), "hires_cam")))
    lying = _named(Randomisation().measure(see(StopGradient(1e4).twin(small, images), "hires_cam")))
    for item in "abc":
        assert honest[item, "logit", LAST] == pytest.approx(0, abs=1e-5)
        assert bent[item, "logit", LAST] > 0.99
        assert bent[item, "log_odds", LAST] < 0.5
        assert abs(lying[item, "log_odds", LAST]) <= 1


class Closed(nn.Module):
    """A network whose copy still calls the original's layers."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

        def call(images: torch.Tensor) -> torch.Tensor:
            return net(images)

        self.call = call

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.call(images)


def test_it_says_where_nothing_can_be_taken_away(small: Classifier, see: Callable[..., Sight]) -> None:
    closed = wrap(Closed(small.net).eval(), input_size=(3, 24, 24), head="softmax")
    assert set(_named(Randomisation().measure(see(closed, "grad_cam"))).values()) == {NOT_FOLLOWED}
    assert [one.value for one in Randomisation().measure(see(small, "gradient"))] == [NO_CAM] * 3
    headless = wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), input_size=(3, 24, 24))
    assert Randomisation().applies(small) is None
    assert Randomisation().applies(headless) in (None, NO_HEAD)
