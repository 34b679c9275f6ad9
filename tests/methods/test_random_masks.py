"""RISE again, slowly: mask by mask, and against the paper's own average."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch
from fukusen.errors import CallError
from fukusen.methods import Rise
from fukusen.methods.fills import Fill, hiding
from fukusen.methods.random_masks import random_masks
from fukusen.models import Classifier, wrap
from fukusen.scores import scores
from fukusen.tape import Tape

TARGETS = (1, 3)


@pytest.fixture
def model() -> Classifier:
    """A small network in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    return wrap(net.double().eval(), input_size=(3, 15, 18), head="softmax")


def _images() -> Tensor:
    return torch.randn(2, 3, 15, 18, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _maps(method: Rise, model: Classifier, *names: str) -> list[Tensor]:
    batch = Batch(("a", "b"), _images(), torch.tensor(TARGETS))
    return [one for one in method.maps(Tape(model, batch), [scores.build(n) for n in names]) if isinstance(one, Tensor)]


def test_it_is_the_papers_average_without_the_mean_score(model: Classifier) -> None:
    """1/(N p) sum_i p_c(x M_i) M_i of the paper, less mean(p_c)/(N p) sum_i M_i."""
    method = Rise(masks=20, cells=3, keep=0.4, seed=7)
    (found,) = _maps(method, model, "probability")
    masks = list(islice(random_masks((15, 18), 3, 0.4, 7), 20))
    for image, target, maps in zip(_images(), TARGETS, found, strict=True):
        values = [float(model.net(image[None] * mask).detach().softmax(dim=1)[0, target]) for mask in masks]
        paper = sum(value * mask[0] for value, mask in zip(values, masks, strict=True)) / (20 * 0.4)
        level = sum(values) / 20 * sum(mask[0] for mask in masks) / (20 * 0.4)
        torch.testing.assert_close(maps, paper - level)


@pytest.mark.parametrize("fill", ["mean", "blur", "noise", "inpaint"])
def test_another_fill_stands_where_nothing_is_let_through(model: Classifier, fill: Fill) -> None:
    """The same average, of images in which the fill takes what the mask takes away."""
    (found,) = _maps(Rise(masks=8, cells=3, fill=fill, seed=7), model, "log_odds")
    masks = list(islice(random_masks((15, 18), 3, 0.5, 7), 8))
    for n, target in enumerate(TARGETS):
        shown = hiding(_images()[n : n + 1], fill, 7)
        values = []
        for mask in masks:
            p = model.net(shown.through(mask)).detach().softmax(dim=1)[0, target]
            values.append(float(p.logit()))
        expected = sum((value - sum(values) / 8) * mask[0] for value, mask in zip(values, masks, strict=True)) / (
            8 * 0.5
        )
        torch.testing.assert_close(found[n], expected)


def test_masks_are_what_they_say() -> None:
    """From 0 to 1, kept in proportion, all different, and the same again for the same seed."""
    masks = torch.cat(list(islice(random_masks((15, 18), 5, 0.3, 0), 200)))
    assert masks.shape == (200, 15, 18)
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1 + 1e-12
    assert float(masks.mean()) == pytest.approx(0.3, abs=0.03)
    assert len({mask.numpy().tobytes() for mask in masks}) == 200
    again = torch.cat(list(islice(random_masks((15, 18), 5, 0.3, 0), 200)))
    assert torch.equal(masks, again)
    assert not torch.equal(masks, torch.cat(list(islice(random_masks((15, 18), 5, 0.3, 1), 200))))


def test_five_scores_share_their_passes(model: Classifier) -> None:
    """One forward pass a mask, however many scores."""
    passes: list[int] = []
    model.net.register_forward_hook(lambda *_: passes.append(1))
    names = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
    assert len(_maps(Rise(masks=6), model, *names)) == 5
    assert len(passes) == 1 + 6


def test_it_finds_what_decides() -> None:
    """A score that is the mean of one corner is explained by that corner."""

    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            value = x[:, :, :4, :4].mean(dim=(1, 2, 3))
            return torch.stack([value, -value], dim=1)

    model = wrap(Corner().eval(), input_size=(1, 16, 16), head="softmax")
    batch = Batch(("a",), torch.ones(1, 1, 16, 16), torch.tensor([0]))
    (maps,) = Rise(masks=200, cells=4).maps(Tape(model, batch), [scores.build("logit")])
    assert isinstance(maps, Tensor)
    top = maps[0].flatten().argmax()
    assert int(top // 16) < 6
    assert int(top % 16) < 6


@pytest.mark.parametrize(("name", "bad"), [("masks", 1), ("cells", 0), ("keep", 0.0), ("keep", 1.0), ("seed", -1)])
def test_bad_parameters_are_refused(name: str, bad: object) -> None:
    """By name."""
    with pytest.raises(CallError, match=f"The '{name}' parameter of Rise must be"):
        Rise(**{name: bad})  # type: ignore[arg-type]
