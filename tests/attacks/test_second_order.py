"""Maps with a graph: they are the methods' own, their slopes are true, and kinks are rounded off in one thread only."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

import fukusen
from fukusen.attacks.second_order import Sought, drawn, softened
from fukusen.errors import ModelError
from fukusen.models import Classifier, wrap


@pytest.fixture
def smooth() -> Classifier:
    """A network without kinks in double precision."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 3))
    return wrap(net.double(), input_size=(1, 8, 8), head="softmax", layer="3")


@pytest.mark.parametrize("place", ["layer", "input"])
def test_they_are_the_methods_maps(model: Classifier, images: torch.Tensor, place: Any) -> None:
    """Grad-CAM's, or the gradient's magnitude, for logit and log-odds."""
    targets = torch.tensor([0, 1, 2, 3, 4, 5])
    made = drawn(model, images, targets, Sought(("logit", "log_odds"), place))
    name = "grad_cam" if place == "layer" else "gradient"
    panel = fukusen.explain(model, images, targets, methods=[name], scores=["logit", "log_odds"])
    torch.testing.assert_close(made.logits.detach(), panel.logits)
    for score, found in zip(("logit", "log_odds"), made.maps, strict=True):
        if place == "layer":
            torch.testing.assert_close(found.detach(), panel[name, score])
            continue
        leaf = images.clone().requires_grad_()
        logits = model.net(leaf)
        own = logits.gather(1, targets[:, None])[:, 0]
        rest = logits.masked_fill(F.one_hot(targets, 10).bool(), -torch.inf).logsumexp(dim=1)
        (slope,) = torch.autograd.grad((own - (rest if score == "log_odds" else 0)).sum(), leaf)
        torch.testing.assert_close(found.detach(), slope.abs().sum(dim=1))


@pytest.mark.parametrize("place", ["layer", "input"])
def test_their_slopes_are_true(smooth: Classifier, place: Any) -> None:
    """Against finite differences, over weights and over pixels."""
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets, weight = torch.tensor([0, 2]), smooth.net[0].weight
    chance = torch.Generator().manual_seed(2)
    way = torch.randn(weight.shape, dtype=torch.float64, generator=chance)
    other = torch.randn(images.shape, dtype=torch.float64, generator=chance)

    def value(images: torch.Tensor) -> torch.Tensor:
        maps = drawn(smooth, images, targets, Sought(("logit", "log_odds"), place)).maps
        return sum(one.detach().square().sum() for one in maps)

    made = drawn(smooth, images, targets, Sought(("logit", "log_odds"), place))
    total = sum(maps.square().sum() for maps in made.maps)
    slopes = torch.autograd.grad(total, (weight, made.images))
    step = 1e-5
    rise = (value(images + step * other) - value(images - step * other)) / (2 * step)
    assert float((slopes[1] * other).sum()) == pytest.approx(float(rise), rel=1e-6)
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            weight.add_(sign * step * way)
        ends.append(float(value(images)))
    assert float((slopes[0] * way).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_two_classes_have_finite_slopes() -> None:
    """The log-odds of one of two has a single competitor."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    model = wrap(net, input_size=(1, 8, 8), head="softmax", layer="1")
    made = drawn(model, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), Sought(("log_odds",)))
    slopes = torch.autograd.grad(made.maps[0].sum(), [*net.parameters(), made.images], materialize_grads=True)
    assert all(bool(one.isfinite().all()) for one in slopes)
    assert any(bool(one.any()) for one in slopes)


@pytest.mark.parametrize(
    ("kink", "smooth"),
    [
        (torch.relu, F.softplus),
        (F.relu, F.softplus),
        (nn.ReLU(inplace=True), F.softplus),
        (nn.ReLU6(), lambda x, beta: F.softplus(x, beta) - F.softplus(x - 6, beta)),
        (nn.Hardtanh(-2.0, 3.0), lambda x, beta: -2 + F.softplus(x + 2, beta) - F.softplus(x - 3, beta)),
        (F.hardtanh, lambda x, beta: -1 + F.softplus(x + 1, beta) - F.softplus(x - 1, beta)),
        (nn.LeakyReLU(0.1), lambda x, beta: 0.1 * x + 0.9 * F.softplus(x, beta)),
        (lambda x: x.clamp(min=0), F.softplus),
        (lambda x: torch.clamp(x, 0, 6), lambda x, beta: F.softplus(x, beta) - F.softplus(x - 6, beta)),
        (lambda x: x.clamp(max=2), lambda x, beta: 2 - F.softplus(2 - x, beta)),
    ],
)
def test_kinks_are_rounded_off(kink: Any, smooth: Any) -> None:
    """In whatever way they are written; far from the kink nothing changes, and outside nothing at all."""
    values = torch.linspace(-8, 8, 33)
    plain = kink(values.clone())
    for sharpness in (3.0, 20.0):
        with softened(sharpness):
            found = kink(values.clone())
        torch.testing.assert_close(found, smooth(values, sharpness))
    with softened(1e4):
        torch.testing.assert_close(kink(values.clone()), plain, atol=1e-4, rtol=0)
    with softened(None):
        assert torch.equal(kink(values.clone()), plain)
    assert torch.equal(kink(values.clone()), plain)


def test_other_threads_keep_their_kinks() -> None:
    """What is rounded off here is not rounded off there."""
    found: list[torch.Tensor] = []
    with softened(1.0):
        worker = threading.Thread(target=lambda: found.append(torch.relu(torch.tensor([-1.0]))))
        worker.start()
        worker.join()
    assert found == [torch.tensor([0.0])]


def test_no_layer_is_refused() -> None:
    flat = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), input_size=(1, 8, 8), head="softmax")
    with pytest.raises(ModelError) as found:
        drawn(flat, torch.rand(1, 1, 8, 8), torch.tensor([0]), Sought(("logit",)))
    assert str(found.value) == "The network has no layer with rows and columns, so there is no Grad-CAM to be redrawn."
    assert drawn(flat, torch.rand(1, 1, 8, 8), torch.tensor([0]), Sought(("logit",), "input")).maps[0].shape == (
        1,
        8,
        8,
    )
