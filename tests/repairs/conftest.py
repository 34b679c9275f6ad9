"""Small networks that end in every way a repair must tell apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fukusen.models import Classifier, wrap


class Ending(nn.Module):
    """A small convolutional network with some head, and something done to its logits."""

    def __init__(self, head: nn.Module, after: str = "nothing") -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.head = head
        self.after = after

    def forward(self, images: Tensor) -> Any:
        found = self.features(images)
        logits = self.head(found.mean(dim=(2, 3)) if isinstance(self.head, nn.Linear) else found)
        logits = logits.mean(dim=(2, 3)) if logits.dim() == 4 else logits
        shift = 50 * found[:, :, 0, 0].sum(dim=1, keepdim=True)
        kinds = {
            "nothing": logits,
            "branch": logits + shift,
            "slope": logits + (shift - shift.detach()),
            "cooled": logits / 3,
            "named": {"logits": logits},
        }
        return kinds[self.after]


def _made(head: nn.Module, after: str = "nothing", dtype: torch.dtype = torch.float32) -> Classifier:
    torch.manual_seed(0)
    net = Ending(head, after).to(dtype)
    with torch.no_grad():
        net.head.weight += 3 * torch.rand_like(net.head.weight[0])
        if net.head.bias is not None:
            net.head.bias += 5
    return wrap(net.eval(), layer="features", input_size=(3, 12, 12), head="softmax")


@pytest.fixture
def made() -> Callable[..., Classifier]:
    """Makes that network a classifier, its head with a large part that all rows share."""
    return _made


@pytest.fixture
def images() -> Tensor:
    """Six random images."""
    return torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))
