"""The training flags: off inside, back afterwards, whoever else is inside."""

from __future__ import annotations

import threading

import pytest
from torch import nn

from fukusen.models.evaluation import evaluating


def _mixed() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    net[1].eval()
    return net


def _flags(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


def test_flags_go_back_exactly() -> None:
    net = _mixed()
    before = _flags(net)
    with evaluating(net):
        assert not any(_flags(net))
    assert _flags(net) == before == [True, True, False, True]


def test_flags_go_back_after_an_exception() -> None:
    net = _mixed()
    before = _flags(net)
    with pytest.raises(RuntimeError, match="inside"), evaluating(net):
        raise RuntimeError("inside")
    assert _flags(net) == before


def test_passes_may_overlap_and_share_parts() -> None:
    """The first to leave does not switch the one that stays, or a network around it, back to training."""
    part = _mixed()
    whole = nn.Sequential(part, nn.Flatten())
    before = _flags(whole)
    first, second = evaluating(whole), evaluating(part)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(_flags(part))
    assert whole.training
    second.__exit__(None, None, None)
    assert _flags(whole) == before


def test_threads_leave_the_flags_as_they_were() -> None:
    net = _mixed()
    before = _flags(net)
    seen: list[bool] = []

    def work() -> None:
        for _ in range(200):
            with evaluating(net):
                seen.extend(_flags(net))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(seen)
    assert _flags(net) == before


def test_an_overridden_train_is_not_called() -> None:
    class Stubborn(nn.Module):
        def train(self, mode: bool = True) -> Stubborn:
            raise AssertionError(f"train({mode}) was called")

    net = Stubborn()
    with evaluating(net):
        assert not net.training
    assert net.training
