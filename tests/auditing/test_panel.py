"""A panel hands out its maps by name, compares them, and draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fukusen.arrays import Batch
from fukusen.auditing import Panel, explain
from fukusen.auditing.panel import joined_panels
from fukusen.errors import CallError, UnknownName
from fukusen.methods import methods
from fukusen.models import wrap
from fukusen.records import Undefined
from fukusen.scores import scores


def panel_on(images: torch.Tensor, *names: str) -> Panel:
    """The panel of two scores and some methods on a small network."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = wrap(net, input_size=(3, 12, 12), head="softmax")
    batch = Batch(tuple(f"image {number}" for number in range(len(images))), images)
    chosen = [methods.build(name) for name in names]
    return explain(model, batch, chosen, [scores.build("logit"), scores.build("log_odds")])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_names_that_are_not_in_it_are_refused(images: torch.Tensor) -> None:
    panel = panel_on(images, "grad_cam")
    with pytest.raises(UnknownName) as wrong:
        panel["grad_cam", "log_od"]
    assert str(wrong.value) == (
        "There is no score in this panel named 'log_od'. Did you mean 'log_odds'? Known: log_odds, logit."
    )


def test_batches_join_into_what_one_batch_gives(images: torch.Tensor) -> None:
    whole = panel_on(images, "grad_cam", "gradient")
    parts = [panel_on(part, "grad_cam", "gradient") for part in images.split(2)]
    joined = joined_panels(parts)
    assert torch.equal(joined.images, whole.images)
    assert torch.equal(joined.targets, whole.targets)
    for key in whole:
        torch.testing.assert_close(joined[key], whole[key])


def test_a_weight_is_what_people_look_at(images: torch.Tensor) -> None:
    panel = panel_on(images, "grad_cam", "gradient")
    shown = panel.weight("grad_cam", "logit", 1)
    assert isinstance(shown, np.ndarray)
    assert np.array_equal(shown, panel["grad_cam", "logit"][1].clamp_min(0).double().numpy())
    magnitude = panel.weight("gradient", "logit", 1)
    assert isinstance(magnitude, np.ndarray)
    assert np.array_equal(magnitude, panel["gradient", "logit"][1].abs().double().numpy())


def test_a_map_that_is_not_finite_has_no_weight(images: torch.Tensor) -> None:
    panel = panel_on(images, "grad_cam")
    panel["grad_cam", "logit"][0, 0, 0] = torch.nan
    assert panel.weight("grad_cam", "logit", 0) == Undefined("it holds numbers that are not finite")


def test_it_draws_one_image_with_all_its_maps(images: torch.Tensor) -> None:
    panel = panel_on(images, "grad_cam", "gradient")
    small, tall = (made.plot(image=2) for made in (panel_on(images, "grad_cam"), panel))
    assert isinstance(tall, Image.Image)
    assert tall.height > small.height
    assert tall.tobytes() != panel.plot(image=0).tobytes()


def test_an_image_that_it_does_not_have_is_not_drawn(images: torch.Tensor) -> None:
    with pytest.raises(CallError) as wrong:
        panel_on(images, "grad_cam").plot(3)
    assert str(wrong.value) == "The 'image' parameter of plot must be an int from 0 to 2. Got 3 instead."
