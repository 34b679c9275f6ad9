"""The later class activation maps again, slowly: loops from the formula, finite differences, power iteration."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Maps
from fukusen.errors import CallError
from fukusen.methods import (
    EigenCam,
    EigenGradCam,
    FinerCam,
    GradCam,
    HiResCam,
    Method,
    RsiGradCam,
    XGradCam,
    leak_share,
)
from fukusen.methods.finer_cam import similar
from fukusen.methods.rsi_grad_cam import shares
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import CenteredLogit, Logit, LogOdds, scores
from fukusen.tape import Tape

Formula = Callable[[Tensor, int], Tensor]
NAIVE: dict[str, Formula] = {
    "logit": lambda z, c: z[:, c],
    "centered_logit": lambda z, c: z[:, c] - z.mean(dim=1),
    "log_odds": lambda z, c: z[:, c] - torch.cat([z[:, :c], z[:, c + 1 :]], dim=1).logsumexp(dim=1),
    "log_probability": lambda z, c: z.log_softmax(dim=1)[:, c],
    "probability": lambda z, c: z.softmax(dim=1)[:, c],
}
TARGETS = (1, 3)
STEP = 1e-5
ALL = [scores.build(name) for name in NAIVE]

each_score = pytest.mark.parametrize("name", NAIVE)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Loops over small tensors: a second thread would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Smooth(nn.Module):
    """A smooth network whose layer has both signs, and whose head weighs every cell by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 5, 3, stride=2))
        self.back = nn.Sequential(nn.Softplus(), nn.Flatten(), nn.Linear(45, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.front(x))


def _model() -> Classifier:
    torch.manual_seed(31)
    net = _Smooth().double().eval()
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(2)
    return wrap(net, input_size=(2, 7, 7), layer="front.2")


def _images() -> Tensor:
    return torch.randn(2, 2, 7, 7, generator=torch.Generator().manual_seed(32), dtype=torch.float64)


def _tape(model: Classifier, images: Tensor) -> Tape:
    return Tape(model, Batch(("a", "b"), images, torch.tensor(TARGETS)))


def _maps(method: Method, model: Classifier, images: Tensor, name: str) -> Maps:
    (found,) = method.maps(_tape(model, images), [scores.build(name)])
    assert isinstance(found, Tensor)
    assert found.dtype == torch.float64
    return found


def _differences(run: Callable[[Tensor], Tensor], formula: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient of a score at one point by central differences, one number at a time."""
    moves = STEP * torch.eye(at.numel(), dtype=torch.float64).reshape(-1, *at.shape)
    with torch.no_grad():
        ahead, behind = formula(run(at + moves)), formula(run(at - moves))
    return ((ahead - behind) / (2 * STEP)).reshape(at.shape)


def _assert_same(found: Tensor, expected: Tensor, relative: float = 1e-6) -> None:
    """Each image's map is right to a share of its largest cell."""
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


def _grad_cam(a: Tensor, g: Tensor) -> Tensor:
    """sum_k (1/Z sum_ij g_kij) A_k."""
    found = torch.zeros(a.shape[1:], dtype=torch.float64)
    for k in range(len(a)):
        weight = sum(g[k, i, j].item() for i in range(a.shape[1]) for j in range(a.shape[2])) / a[k].numel()
        found += weight * a[k]
    return found


def _x_grad_cam(a: Tensor, g: Tensor) -> Tensor:
    """Fu et al.: w_k = sum_ij (F_kij / sum_ij F_kij) g_kij, with F what a ReLU hands on."""
    channels, rows, columns = a.shape
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    found = torch.zeros(rows, columns, dtype=torch.float64)
    for k in range(channels):
        whole = sum(max(a[k, i, j].item(), 0.0) for i, j in cells)
        weight = sum(max(a[k, i, j].item(), 0.0) / whole * g[k, i, j].item() for i, j in cells)
        for i, j in cells:
            found[i, j] += weight * max(a[k, i, j].item(), 0.0)
    return found


def _first_component(features: Tensor) -> Tensor:
    """O v by power iteration on O^T O from the vector of ones, whose sign the limit keeps."""
    cells = features.flatten(1).T
    vector = torch.ones(cells.shape[1], dtype=torch.float64)
    for _ in range(20_000):
        vector = cells.T @ (cells @ vector)
        vector = vector / vector.norm()
    return (cells @ vector).reshape(features.shape[1:])


CAMS: list[tuple[Method, Callable[[Tensor, Tensor], Tensor]]] = [
    (XGradCam(), _x_grad_cam),
    (EigenCam(), lambda a, _g: _first_component(a.clamp_min(0))),
    (EigenGradCam(), lambda a, g: _first_component(a * g)),
]


@each_score
@pytest.mark.parametrize(("method", "paper"), CAMS, ids=[method.name for method, _ in CAMS])
def test_cam_is_the_papers(method: Method, paper: Callable[[Tensor, Tensor], Tensor], name: str) -> None:
    """Loops over channels and cells, with the layer's gradient by finite differences."""
    model, images = _model(), _images()
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        with torch.no_grad():
            activations = model.net.front(image[None])[0]
        assert bool((activations < 0).any())
        gradients = _differences(model.net.back, lambda z, c=target: NAIVE[name](z, c), activations)
        expected.append(paper(activations, gradients))
    _assert_same(_maps(method, model, images, name), torch.stack(expected))


@each_score
@pytest.mark.parametrize(("gamma", "references"), [(0.6, 3), (1.0, 1), (0.3, 9)])
def test_finer_cam_is_the_papers(name: str, gamma: float, references: int) -> None:
    """Grad-CAM of s_c - gamma mean_d s_d, with the d picked by hand from the sorted differences of the logits."""
    model, images = _model(), _images()
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        with torch.no_grad():
            activations = model.net.front(image[None])[0]
            logits = model.net(image[None])[0].tolist()
        others = sorted((k for k in range(5) if k != target), key=lambda k: abs(logits[k] - logits[target]))
        chosen = others[:references]

        def contrast(z: Tensor, c: int = target, chosen: list[int] = chosen) -> Tensor:
            return NAIVE[name](z, c) - gamma * sum(NAIVE[name](z, d) for d in chosen) / len(chosen)

        expected.append(_grad_cam(activations, _differences(model.net.back, contrast, activations)))
    found = _maps(FinerCam(gamma=gamma, references=references), model, images, name)
    _assert_same(found, torch.stack(expected))


@each_score
@pytest.mark.parametrize(("steps", "baseline"), [(1, 0.0), (4, -0.3)])
def test_rsi_grad_cam_is_the_papers(name: str, steps: int, baseline: float) -> None:
    """Lucas et al.: I_k = sum_n (g_n + g_n+1) / 2 (A_n+1 - A_n), w_k = 1/Z sum_ij I_kij, map = sum_k w_k A_k."""
    model, images = _model(), _images()
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        kept = []
        for number in range(steps + 1):
            with torch.no_grad():
                activations = model.net.front((baseline + (image - baseline) * number / steps)[None])[0]
            kept.append((activations, _differences(model.net.back, lambda z, c=target: NAIVE[name](z, c), activations)))
        whole = torch.zeros_like(kept[0][0])
        for (a, g), (a_next, g_next) in itertools.pairwise(kept):
            whole += (g + g_next) / 2 * (a_next - a)
        last = kept[-1][0]
        expected.append(sum(whole[k].mean() * last[k] for k in range(len(last))))
    _assert_same(_maps(RsiGradCam(steps=steps, baseline=baseline), model, images, name), torch.stack(expected))


def _pooled(layer: str) -> Classifier:
    """A ReLU, global average pooling and a linear head, read before or after the ReLU."""
    torch.manual_seed(33)
    front = [nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.ReLU()]
    net = nn.Sequential(*front, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).double().eval()
    return wrap(net, input_size=(2, 7, 7), layer=layer)


@each_score
def test_x_grad_cam_is_grad_cam_where_the_head_pools(name: str) -> None:
    """There every cell of a channel has the same gradient, so that any mean of it is the same."""
    model, images = _pooled("3"), _images()
    _assert_same(_maps(XGradCam(), model, images, name), _maps(GradCam(), model, images, name), 1e-12)


@pytest.mark.parametrize("method", [XGradCam(), EigenCam(), EigenGradCam()], ids=lambda method: method.name)
def test_a_layer_read_before_its_relu_gives_the_same_map(method: Method) -> None:
    """Which Grad-CAM's does not."""
    images = _images()
    _assert_same(_maps(method, _pooled("2"), images, "logit"), _maps(method, _pooled("3"), images, "logit"), 1e-9)
    before, after = (_maps(GradCam(), _pooled(layer), images, "logit") for layer in ("2", "3"))
    assert float((before - after).abs().max() / after.abs().max()) > 0.1


@each_score
def test_x_grad_cam_sums_to_what_hires_cam_does(name: str) -> None:
    """The paper's conservation, with a head that does not pool."""
    torch.manual_seed(34)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 5))
    model, images = wrap(net.double().eval(), input_size=(2, 7, 7), layer="1"), _images()
    found, cell_by_cell = (_maps(method, model, images, name) for method in (XGradCam(), HiResCam()))
    torch.testing.assert_close(found.sum(dim=(1, 2)), cell_by_cell.sum(dim=(1, 2)), rtol=1e-10, atol=1e-12)
    assert float((found - cell_by_cell).abs().max()) > 1e-3


def test_channels_that_are_off_add_nothing() -> None:
    """A channel of zeros has no weight, and none of them is a number that is not one."""
    features = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    gradients = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    with_zeros = torch.cat([features, torch.zeros(1, 2, 4, 4, dtype=torch.float64)], dim=1)
    more = torch.cat([gradients, torch.ones(1, 2, 4, 4, dtype=torch.float64)], dim=1)
    for method in (XGradCam(), EigenGradCam()):
        torch.testing.assert_close(method.weigh(with_zeros, more), method.weigh(features, gradients))
        assert method.weigh(0 * features, gradients).abs().max() == 0


def test_eigen_cam_knows_no_score() -> None:
    """One tensor for all of them, without a backward pass; nothing in it is negative."""
    model = _model()
    tape = _tape(model, _images())
    found = EigenCam().maps(tape, ALL)
    assert all(maps is found[0] for maps in found)
    assert tape._rewound == {}
    assert isinstance(found[0], Tensor)
    assert float(found[0].min()) >= 0
    assert leak_share(EigenCam()) == 0.0


@each_score
def test_finer_cam_without_comparison_is_grad_cam(name: str) -> None:
    """Gamma 0 takes nothing away; of two classes the log-odds take away their own reverse."""
    model, images = _model(), _images()
    _assert_same(_maps(FinerCam(gamma=0.0), model, images, name), _maps(GradCam(), model, images, name), 1e-12)


def test_finer_cam_of_two_classes() -> None:
    """The other class's log-odds are the target's turned round: (1 + gamma) times Grad-CAM."""
    torch.manual_seed(37)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(150, 2)).double().eval()
    tape = Tape(wrap(net, input_size=(2, 7, 7), head="softmax"), Batch(("a", "b"), _images(), torch.tensor([1, 0])))
    (finer,), (plain,) = (method.maps(tape, [LogOdds()]) for method in (FinerCam(), GradCam()))
    assert isinstance(finer, Tensor)
    assert isinstance(plain, Tensor)
    _assert_same(finer, 1.6 * plain, 1e-10)


@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0])
def test_finer_cam_lets_one_minus_gamma_of_a_shift_in(gamma: float) -> None:
    """The common mode of the logits, Grad-CAM's logit map less its centred one, enters so often and no more."""
    tape = _tape(_model(), _images())
    method = FinerCam(gamma=gamma)
    (before, after), (logit, centred) = (one.maps(tape, [Logit(), CenteredLogit()]) for one in (method, GradCam()))
    assert not any(isinstance(one, Undefined) for one in (before, after, logit, centred))
    assert leak_share(method) == 1 - gamma
    torch.testing.assert_close(before - after, (1 - gamma) * (logit - centred), rtol=1e-9, atol=1e-12)
    assert float((logit - centred).abs().max()) > 1e-3


def test_similar_classes_are_those_with_the_nearest_logits() -> None:
    """The target is never one of them, a shift changes nothing, and there are no more than there are."""
    logits = torch.tensor([[3.0, 9.0, 2.5, 4.0], [1.0, 1.0, 1.0, 7.0]])
    targets = torch.tensor([0, 3])
    assert similar(logits, targets, 2).tolist() == [[2, 3], [0, 1]]
    assert torch.equal(similar(logits + 64, targets, 2), similar(logits, targets, 2))
    assert similar(logits, targets, 9).tolist() == [[2, 3, 1], [0, 1, 2]]


def test_finer_cam_goes_no_further_than_the_layer() -> None:
    """Similar classes cost no pass to the input, however far the tape reaches."""
    model, reached = _model(), []
    model.net.front[0].register_full_backward_hook(lambda *_: reached.append(1))
    tape = _tape(model, _images())
    FinerCam().maps(tape, ALL)
    assert len(reached) == 3  # the tape's own directions, and nothing for the similar classes


@each_score
def test_rsi_shares_add_up_to_the_change(name: str) -> None:
    """Over all channels and cells, to the score's change from the baseline, the better the more steps."""
    model, images = _model(), _images() / 2
    tape, score = _tape(model, images), scores.build(name)
    start = Tape(model, Batch(("a", "b"), torch.full_like(images, 0.2), tape.targets))
    change = tape.value(score) - start.value(score)
    errors = []
    for steps in (4, 16, 64):
        (found,) = shares(tape, tape.layers[0], [score], steps, 0.2)
        errors.append(float((found.sum(dim=(1, 2, 3)) - change).abs().max() / change.abs().max()))
    assert errors[0] > 8 * errors[1] > 64 * errors[2]
    assert errors[2] < 5e-3


def test_rsi_grad_cam_of_a_linear_head_needs_one_step() -> None:
    """Where the gradient is the same everywhere, the integral is gradient times change, whatever the path."""
    model, images = _pooled("3"), _images()
    once, often = (_maps(RsiGradCam(steps=steps), model, images, "logit") for steps in (1, 7))
    _assert_same(once, often, 1e-12)


BAD = [
    (lambda: FinerCam(gamma=1.5), "The 'gamma' parameter of FinerCam must be a number from 0 to 1. Got 1.5 instead."),
    (lambda: FinerCam(references=0), "The 'references' parameter of FinerCam must be an int >= 1. Got 0 instead."),
    (lambda: RsiGradCam(steps=0), "The 'steps' parameter of RsiGradCam must be an int >= 1. Got 0 instead."),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_parameters_are_refused(make: Callable[[], Method], message: str) -> None:
    """In the house's one sentence."""
    with pytest.raises(CallError) as caught:
        make()
    assert str(caught.value) == message


def test_finer_cam_goes_back_for_what_sets_the_class_apart_only() -> None:
    """Three passes beyond Grad-CAM's own for five scores: two of logits and log-probability have the same start."""
    model, images = _model(), _images()
    tape = Tape(model, Batch(("a", "b"), images, torch.tensor(TARGETS)))
    GradCam().maps(tape, ALL)
    passes: list[int] = []
    tape.capture.logits.register_hook(lambda _: passes.append(1))
    FinerCam().maps(tape, ALL)
    assert len(passes) == 3
