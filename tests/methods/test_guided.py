"""Guided backpropagation again, slowly: one matrix a layer and the paper's rule for each ReLU; and captum's."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows

from fukusen.arrays import Batch
from fukusen.methods import GradCam, GuidedBackprop, GuidedGradCam, Method
from fukusen.models import INPUT, Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import Logit, LogOdds, scores
from fukusen.tape import Tape

NAMES = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
TARGETS = (2, 0)
NO_RELU = Undefined("the network has no ReLU, so there is nothing to guide")
Act = Callable[[Tensor], Tensor]
RELUS: dict[str, Act] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "x.relu_()": lambda x: x.relu_(),
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 0.5),
    "x.clamp(min=0)": lambda x: x.clamp(min=0),
    "x.clamp_min(0)": lambda x: x.clamp_min(0),
    "F.threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "torch.maximum": lambda x: torch.maximum(x, torch.zeros((), dtype=x.dtype)),
}
SMOOTH: dict[str, Act] = {"tanh": torch.tanh, "F.silu": F.silu, "F.hardtanh(-1, 1)": F.hardtanh, "F.elu": F.elu}


class _Net(nn.Module):
    """Two convolutions and two linear layers, with one activation used three times."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3, stride=2)
        self.dense0, self.dense1 = nn.Linear(36, 6), nn.Linear(6, 4)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv1(self.act(self.conv0(x)))).flatten(1)
        return self.dense1(self.act(self.dense0(x)))


def _model(act: Act) -> Classifier:
    torch.manual_seed(3)
    net = _Net(act).double().eval()
    return wrap(net, input_size=(2, 7, 7), layer="conv1", head="softmax")


def _tape(model: Classifier) -> Tape:
    images = torch.randn(2, 2, 7, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return Tape(model, Batch(("a", "b"), images, torch.tensor(TARGETS)))


def _maps(method: Method, tape: Tape, name: str) -> Tensor:
    (found,) = method.maps(tape, [scores.build(name)])
    assert isinstance(found, Tensor)
    return found


def _start(name: str, z: Tensor, c: int) -> Tensor:
    p, unit = z.softmax(dim=0), torch.eye(4, dtype=torch.float64)[c]
    starts = {
        "logit": unit,
        "centered_logit": unit - 0.25,
        "log_odds": (unit - p) / (1 - p[c]),
        "log_probability": unit - p,
        "probability": p[c] * (unit - p),
    }
    return starts[name]


def _slow(net: _Net, image: Tensor, name: str, target: int) -> Tensor:
    """Springenberg et al.: R = (f > 0) (R > 0) R at each ReLU, where f is still growing; else the matrix transposed."""
    layers: list[Callable[[Tensor], Tensor]] = [
        net.conv0,
        net.conv1,
        lambda x: net.dense0(x.flatten(1)),
        net.dense1,
    ]
    below, matrices, slopes = image[None], [], []
    for number, layer in enumerate(layers):
        jacobian = torch.autograd.functional.jacobian(layer, below)
        with torch.no_grad():
            above = layer(below)
            matrices.append(jacobian.reshape(above.numel(), below.numel()))
            if number < 3:
                grown = (net.act(above + 1e-7) - net.act(above - 1e-7)) / 2e-7
                slopes.append(grown.flatten())
                below = net.act(above.clone())
    back = matrices[3].T @ _start(name, above[0], target)
    for matrix, slope in zip(matrices[2::-1], slopes[::-1], strict=True):
        back = matrix.T @ torch.where(back > 0, back * slope, 0.0)
    return back.reshape(image.shape)


def _assert_same(found: Tensor, expected: Tensor, relative: float) -> None:
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("act", RELUS)
def test_guided_backprop_is_the_papers(act: str, name: str) -> None:
    """However the ReLU is written, and although it is used three times."""
    model = _model(RELUS[act])
    tape = _tape(model)
    expected = [_slow(model.net, x, name, c).sum(dim=0) for x, c in zip(tape.batch.images, TARGETS, strict=True)]
    _assert_same(_maps(GuidedBackprop(), tape, name), torch.stack(expected), 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_guided_grad_cam_is_the_product(name: str) -> None:
    """Of every channel of the guided gradient with the enlarged map, whose negative part is cut off."""
    model = _model(F.relu6)
    tape = _tape(model)
    cam = _maps(GradCam(), tape, name).clamp_min(0)
    large = F.interpolate(cam[:, None], (7, 7), mode="bilinear", align_corners=False)[:, 0]
    expected = []
    for image, target, one in zip(tape.batch.images, TARGETS, large, strict=True):
        guided = _slow(model.net, image, name, target)
        expected.append(sum((guided[channel] * one for channel in range(2)), torch.zeros(7, 7)))
    _assert_same(_maps(GuidedGradCam(), tape, name), torch.stack(expected), 1e-6)


@pytest.mark.parametrize("method", [GuidedBackprop(), GuidedGradCam()], ids=lambda method: method.name)
@pytest.mark.parametrize("act", SMOOTH)
def test_a_network_without_relus_has_no_guided_map(act: str, method: Method) -> None:
    """It would be the plain gradient under another name."""
    assert method.maps(_tape(_model(SMOOTH[act])), [Logit(), LogOdds()]) == [NO_RELU, NO_RELU]


def test_the_tape_is_as_it_was() -> None:
    """Its own gradients are those of an untouched one, and nothing is left on its graph, also after an exception."""
    tape, other = _tape(_model(F.relu)), _tape(_model(F.relu))
    first = _maps(GuidedBackprop(), tape, "logit")
    with pytest.raises(ZeroDivisionError):
        GuidedBackprop().maps(tape, [Logit(), _Broken()])
    for score in (Logit(), LogOdds()):
        assert torch.equal(tape.gradient(score, INPUT), other.gradient(score, INPUT))
    assert torch.equal(first, _maps(GuidedBackprop(), other, "logit"))


class _Broken(Logit):
    """A score that cannot be differentiated."""

    def factors(self, logits: Tensor, targets: Tensor) -> tuple[Logit, Tensor]:  # noqa: ARG002 - as every score
        raise ZeroDivisionError


def test_a_tape_that_stops_at_a_layer_is_no_hindrance() -> None:
    """The images are then passed through once more."""
    model = _model(F.relu)
    short = Tape(model, _tape(model).batch, at_input=False)
    torch.testing.assert_close(
        _maps(GuidedBackprop(), short, "log_odds"), _maps(GuidedBackprop(), _tape(model), "log_odds")
    )


def test_two_threads_guide_at_once() -> None:
    """With the same network, while plain gradients are taken beside them."""
    model = _model(F.relu)
    expected = _maps(GuidedBackprop(), _tape(model), "logit"), _tape(model).gradient(Logit(), INPUT)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(10):
            tape = _tape(model)
            guided = _maps(GuidedBackprop(), tape, "logit")
            if not (torch.equal(guided, expected[0]) and torch.equal(tape.gradient(Logit(), INPUT), expected[1])):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.slow
def test_a_compiled_part_runs_uncompiled() -> None:
    """So that its ReLUs are in sight."""
    model = _model(F.relu)
    (expected,) = GuidedBackprop().maps(_tape(model), [Logit()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler's own parts say
        model.net.conv0 = nn.Sequential(torch.compile(model.net.conv0, backend="aot_eager"))
        (found,) = GuidedBackprop().maps(_tape(model), [Logit()])
    assert torch.equal(found, expected)


class _Apart(nn.Module):
    """ReLUs as modules of their own, each used once: what captum needs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.relu0 = nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()
        self.conv1, self.relu1 = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU()
        self.dense = nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.relu1(self.conv1(self.relu0(self.conv0(x)))).flatten(1))


captum = pytest.importorskip("captum.attr", reason="captum is not installed", exc_type=ImportError)


def _captums(net: nn.Module, images: Tensor, kind: str) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer warns that it sets hooks
        if kind == "guided_backprop":
            found = captum.GuidedBackprop(net).attribute(images, target=torch.tensor(TARGETS))
        else:
            peer = captum.GuidedGradCam(net, net.conv1)
            found = peer.attribute(images, target=torch.tensor(TARGETS), interpolate_mode="bilinear")
    return found.detach().sum(dim=1)


@pytest.mark.parametrize("method", [GuidedBackprop(), GuidedGradCam()], ids=lambda method: method.name)
def test_it_is_captums_where_captum_is_right(method: Method) -> None:
    """On modules that are used once."""
    torch.manual_seed(3)
    model = wrap(_Apart().double().eval(), input_size=(2, 7, 7), layer="conv1", head="softmax")
    tape = _tape(model)
    _assert_same(_maps(method, tape, "logit"), _captums(_copy(model), tape.batch.images, method.name), 1e-4)


def _copy(model: Classifier) -> nn.Module:
    """The same network, for a peer to set its hooks on."""
    net = type(model.net)(*([model.net.act] if isinstance(model.net, _Net) else [])).double().eval()
    net.load_state_dict(model.net.state_dict())
    return net


@pytest.mark.parametrize("act", [nn.ReLU6(), F.relu], ids=["ReLU6", "F.relu"])
def test_captum_gives_the_plain_gradient_where_it_sees_no_relu(act: Act) -> None:
    """Without a word; ours is the paper's on the same network."""
    model = _model(act)
    tape = _tape(model)
    peer = _captums(_copy(model), tape.batch.images, "guided_backprop")
    _assert_same(tape.gradient(Logit(), INPUT).sum(dim=1), peer, 1e-12)
    expected = [_slow(model.net, x, "logit", c).sum(dim=0) for x, c in zip(tape.batch.images, TARGETS, strict=True)]
    found = _maps(GuidedBackprop(), tape, "logit")
    _assert_same(found, torch.stack(expected), 1e-6)
    assert float((found - peer).abs().max() / peer.abs().max()) > 0.1


def test_the_family_shares_its_passes() -> None:
    """Guided Grad-CAM takes what guided backpropagation has brought back."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = wrap(net.eval(), input_size=(3, 8, 8), head="softmax")
    tape = Tape(model, Batch(("a",), torch.rand(1, 3, 8, 8)))
    backward: list[int] = []
    wanted = [scores.build(name) for name in ("logit", "log_odds", "probability")]
    GradCam().maps(tape, wanted)
    tape.capture.logits.register_hook(lambda _: backward.append(1))
    GuidedBackprop().maps(tape, wanted)
    assert len(backward) == 2
    GuidedGradCam().maps(tape, wanted)
    assert len(backward) == 2
