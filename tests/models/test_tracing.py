"""A pass is written down step by step, with its modules, what gradients can reach, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fukusen.errors import ModelError
from fukusen.models import Classifier, wrap
from fukusen.models.digest import digest_model, passing
from fukusen.models.tracing import ROOT, Given, trace


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


def _model(net: nn.Module) -> Classifier:
    return wrap(net, input_size=(3, 8, 8), head="softmax")


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_steps_have_names_modules_and_sources() -> None:
    """Views are none, what happens in place is one, and weights are not told of."""
    seen = trace(_model(_net()), IMAGES)
    assert seen is not None
    told = [(step.name, step.module, [one.step for one in step.given]) for step in seen.steps]
    assert told == [
        ("image", ROOT, []),
        ("convolution", "0.0", [0]),
        ("relu", "0.1", [1]),
        ("mean", "1", [2]),
        ("addmm", "3", [3]),
    ]
    assert all(step.recorded and step.is_float for step in seen.steps)
    assert seen.logits == Given(4, live=True, is_float=True)
    assert (seen.custom, seen.backward_hooks, seen.replaced, seen.lost) == ((), (), (), False)


class Half(nn.Module):
    """A network that loses its gradient in one of two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _net()

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            dark = self.net(images)
        found: Tensor = self.net(images) + dark * dark.detach()
        return found


def test_what_gradients_do_not_reach_is_told() -> None:
    seen = trace(_model(Half()), IMAGES)
    assert seen is not None
    assert [step.recorded for step in seen.steps] == [True, *[False] * 4, *[True] * 6]
    assert [one.live for one in seen.steps[-1].given] == [True, False]
    assert [one.live for one in seen.steps[-2].given] == [False, False]
    assert seen.logits.live


class Failing(nn.Module):
    """A network that fails where gradients are on."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.net, self.error, self.fails = _net(), error, False

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.net(images)
        if self.fails:
            raise self.error
        return found


def test_nothing_is_left_behind_after_an_error() -> None:
    """Whatever a pass with such steps cannot run is not followed; other errors are the caller's."""
    for error in (NotImplementedError("no such kernel"), ModelError("something else")):
        net = Failing(error)
        model = _model(net)
        net.fails = True
        if isinstance(error, ModelError):
            with pytest.raises(ModelError):
                trace(model, IMAGES)
        else:
            assert trace(model, IMAGES) is None
        assert not any(one._forward_hooks or one._forward_pre_hooks for one in net.modules())


class Peeking(nn.Module):
    """A network that takes its own name while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _net()
        self.names: set[str] = set()

    def forward(self, images: Tensor) -> Tensor:
        self.names.add(digest_model(self.net, None))
        hooks = [hook for part in self.net.modules() for hook in part._forward_hooks.values()]
        assert all(map(passing, hooks))
        found: Tensor = self.net(images)
        return found


def test_hooks_of_the_trace_change_no_digest() -> None:
    """Another thread may take it meanwhile."""
    net = Peeking()
    assert trace(_model(net), IMAGES) is not None
    assert net.names == {digest_model(net.net, None)}
