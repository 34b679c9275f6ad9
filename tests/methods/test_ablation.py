"""Ablation-CAM and Score-CAM again, slowly, channel by channel; and what they share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch
from fukusen.errors import CallError
from fukusen.methods import AblationCam, Method, ScoreCam
from fukusen.models import Classifier, wrap
from fukusen.scores import scores
from fukusen.tape import Tape

NAMES = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
TARGETS = (1, 3)


class _Net(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.head(self.front(x))
        return values


def _model(*, pooled: bool = False) -> Classifier:
    torch.manual_seed(0)
    linear = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)]
    curved = [nn.Conv2d(6, 8, 3), nn.Tanh(), *linear[:2], nn.Linear(8, 5)]
    net = _Net(nn.Sequential(*(linear if pooled else curved))).double().eval()
    return wrap(net, input_size=(3, 13, 13), head="softmax", layer="front.1")


def _images() -> Tensor:
    return torch.randn(2, 3, 13, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _maps(method: Method, model: Classifier, name: str, images: Tensor) -> Tensor:
    batch = Batch(tuple("ab"[: len(images)]), images, torch.tensor(TARGETS[: len(images)]))
    (found,) = method.maps(Tape(model, batch), [scores.build(name)])
    assert isinstance(found, Tensor)
    return found


def _value(name: str, z: Tensor, c: int) -> Tensor:
    rest = torch.cat([z[:c], z[c + 1 :]]).logsumexp(dim=0)
    return {
        "logit": z[c],
        "centered_logit": z[c] - z.mean(),
        "log_odds": z[c] - rest,
        "log_probability": z.log_softmax(dim=0)[c],
        "probability": z.softmax(dim=0)[c],
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_ablation_cam_is_the_papers(name: str) -> None:
    """sum_k (s - s without k) A_k, one channel of one image after another."""
    model, images = _model(), _images()
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        cells = model.net.front(image[None])
        before = _value(name, model.net.head(cells)[0], target)
        total = torch.zeros_like(cells[0, 0])
        for channel in range(6):
            without = cells.clone()
            without[0, channel] = 0
            total = total + (before - _value(name, model.net.head(without)[0], target)) * cells[0, channel]
        expected.append(total)
    torch.testing.assert_close(_maps(AblationCam(), model, name, images), torch.stack(expected).detach())


@pytest.mark.parametrize("name", NAMES)
def test_score_cam_is_the_papers(name: str) -> None:
    """softmax over k of (s of the image seen through A_k less that of the zero image), times A_k."""
    model, images = _model(), _images()
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        cells = model.net.front(image[None])[0].detach()
        zero = _value(name, model.net(torch.zeros_like(image)[None])[0], target)
        gains = []
        for cell in cells:
            large = nn.functional.interpolate(cell[None, None], (13, 13), mode="bilinear", align_corners=False)
            window = (large - large.min()) / (large.max() - large.min())
            gains.append(_value(name, model.net(image[None] * window)[0], target) - zero)
        weights = torch.stack(gains).softmax(dim=0)
        expected.append((weights[:, None, None] * cells).sum(dim=0))
    torch.testing.assert_close(_maps(ScoreCam(), model, name, images), torch.stack(expected).detach())


def test_ablation_cam_of_a_linear_head_is_grad_cam() -> None:
    """Behind average pooling the fall is the slope times the mean activation: w_k = g_k sum(A_k) / Z."""
    model, images = _model(pooled=True), _images()
    cells = model.net.front(images).detach()
    slope = model.net.head[2].weight.detach()[list(TARGETS)]
    expected = torch.einsum("bk,bkhw->bhw", slope * cells.mean(dim=(2, 3)), cells)
    torch.testing.assert_close(_maps(AblationCam(), model, "logit", images), expected)


@pytest.mark.parametrize("method", [AblationCam(), ScoreCam()])
def test_five_scores_cost_no_more_passes_than_one(method: Method) -> None:
    """And Ablation-CAM runs the part before the layer no more often than there are images, and once to try."""
    model, counts = _model(), []
    for names in (NAMES[:1], NAMES):
        front: list[int] = []
        handle = model.net.front[0].register_forward_hook(lambda _m, _i, output, front=front: front.append(len(output)))
        tape = Tape(model, Batch(("a", "b"), _images(), torch.tensor(TARGETS)))
        method.maps(tape, [scores.build(name) for name in names])
        handle.remove()
        counts.append(sum(front))
    assert counts[0] == counts[1]
    assert counts[0] == (2 + 1 + 2 if isinstance(method, AblationCam) else 2 + 1 + 2 * 6)


def test_a_network_that_looks_past_the_layer_is_run_whole() -> None:
    """Rows of the layer and rows of what went around it must be the same images'."""

    class Around(_Net):
        def forward(self, x: Tensor) -> Tensor:
            values: Tensor = self.head(self.front(x)) + x.flatten(1)[:, :5].reshape(x.shape[0], 5)
            if len(values) != len(x):
                raise ValueError("rows of two images")
            return values

    torch.manual_seed(0)
    net = Around(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))).double().eval()
    around = wrap(net, input_size=(3, 13, 13), head="softmax", layer="front.1")
    plain = _Net(net.head).double().eval()
    plain.front = net.front
    straight = wrap(plain, input_size=(3, 13, 13), head="softmax", layer="front.1")
    found, expected = (_maps(AblationCam(), model, "logit", _images()) for model in (around, straight))
    torch.testing.assert_close(found, expected)


def test_the_strongest_channels_come_first() -> None:
    """One channel gives a map that is a multiple of its activation."""
    model, images = _model(), _images()
    cells = model.net.front(images).detach()
    for method in (AblationCam(channels=1), ScoreCam(channels=1)):
        for maps, own in zip(_maps(method, model, "logit", images), cells, strict=True):
            best = own[own.square().sum(dim=(1, 2)).argmax()]
            assert abs(float(torch.cosine_similarity(maps.flatten(), best.flatten(), dim=0))) == pytest.approx(1)


def test_a_channel_that_is_switched_off_is_not_the_strongest() -> None:
    """Of a layer read before its ReLU, the one with the largest numbers may hand nothing on."""
    model, images = _model(), _images()
    front = model.net.front[0]
    with torch.no_grad():
        front.bias[2] -= 1000
    before = wrap(model.net, input_size=(3, 13, 13), head="softmax", layer="front.0")
    for method in (AblationCam(channels=1), ScoreCam(channels=1)):
        assert float(_maps(method, before, "logit", images).abs().max()) > 0
        found = front(images).detach()
        for maps, own in zip(_maps(method, before, "logit", images), found, strict=True):
            best = own[own.clamp_min(0).square().sum(dim=(1, 2)).argmax()]
            seen = best if isinstance(method, AblationCam) else best.clamp_min(0)
            assert abs(float(torch.cosine_similarity(maps.flatten(), seen.flatten(), dim=0))) == pytest.approx(1)


@pytest.mark.parametrize("kind", [AblationCam, ScoreCam])
@pytest.mark.parametrize("bad", [0, -3])
def test_bad_counts_are_refused(kind: type, bad: int) -> None:
    """With the value and the rule."""
    with pytest.raises(CallError, match=f"The 'channels' parameter of {kind.__name__} must be an int >= 1"):
        kind(channels=bad)
