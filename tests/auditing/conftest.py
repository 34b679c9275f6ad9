"""A network that has learnt to read digits, and images of them that it has not seen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fukusen.models import Classifier, wrap


def _learnt(stride: int, width: int) -> tuple[Classifier, torch.Tensor]:
    """Five digits at random places on a larger canvas; so many channels in cells of so many pixels a side."""
    data = pytest.importorskip("sklearn.datasets").load_digits(n_class=5)
    chance = torch.Generator().manual_seed(0)
    small = torch.tensor(data.images, dtype=torch.float32) / 16
    images, labels = torch.zeros(len(small), 1, 20, 20), torch.tensor(data.target)
    for number, (top, left) in enumerate(torch.randint(0, 13, (len(small), 2), generator=chance).tolist()):
        images[number, 0, top : top + 8, left : left + 8] = small[number]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for below, above, step in ((1, 16, stride), (16, width, 1)):
            layers += [nn.Conv2d(below, above, 3, step, padding=1), nn.BatchNorm2d(above), nn.ReLU()]
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(12):
        for which in torch.randperm(len(images) - 12, generator=chance).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images[which]), labels[which]).backward()
            optimiser.step()
    return wrap(net.eval(), input_size=(1, 20, 20), head="softmax", layer="5"), images[-12:]


@pytest.fixture(scope="session")
def digits() -> tuple[Classifier, torch.Tensor]:
    """A network with 32 channels in 10 x 10 cells, and twelve images that it has not seen."""
    return _learnt(stride=2, width=32)


@pytest.fixture(scope="session")
def wide() -> tuple[Classifier, torch.Tensor]:
    """A network with more channels than cells, 64 in 7 x 7, in whose Grad-CAM any picture can be drawn.

    Faint noise on its images makes all of their cells different, as the drawing needs.
    """
    model, images = _learnt(stride=3, width=64)
    return model, images + 0.1 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
