"""Every method again, slowly: loops written from the paper's formula, finite differences, float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Maps
from fukusen.errors import CallError
from fukusen.methods import (
    GradCam,
    GradCamPlusPlus,
    Gradient,
    HiResCam,
    InputXGradient,
    IntegratedGradients,
    LayerCam,
    Method,
    Occlusion,
    SlidingOcclusion,
    SmoothGrad,
)
from fukusen.methods.fills import hiding
from fukusen.models import Classifier, wrap
from fukusen.scores import scores
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

each_score = pytest.mark.parametrize("name", NAIVE)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Loops over small tensors: a second thread would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Smooth(nn.Module):
    """A smooth network whose head weighs every cell by itself, so that no method can mistake a mean for a cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 5, 3, stride=2))
        self.back = nn.Sequential(nn.Softplus(), nn.Flatten(), nn.Linear(45, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.front(x))


def _model(channels: int = 2) -> Classifier:
    torch.manual_seed(5)
    net = _Smooth(channels).double().eval()
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(2)
    return wrap(net, input_size=(channels, 7, 7), layer="front.2")


def _images(channels: int = 2) -> Tensor:
    return torch.randn(2, channels, 7, 7, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def _maps(method: Method, model: Classifier, images: Tensor, name: str) -> Maps:
    tape = Tape(model, Batch(("a", "b"), images, torch.tensor(TARGETS)))
    (found,) = method.maps(tape, [scores.build(name)])
    assert isinstance(found, Tensor)
    assert found.dtype == torch.float64
    return found


def _differences(run: Callable[[Tensor], Tensor], formula: Formula, at: Tensor, target: int) -> Tensor:
    """The gradient of a score at one point by central differences, one number at a time."""
    moves = STEP * torch.eye(at.numel(), dtype=torch.float64).reshape(-1, *at.shape)
    with torch.no_grad():
        ahead, behind = formula(run(at + moves), target), formula(run(at - moves), target)
    return ((ahead - behind) / (2 * STEP)).reshape(at.shape)


def _assert_same(found: Tensor, expected: Tensor, relative: float = 1e-6) -> None:
    """Each image's map is right to a share of its largest cell."""
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


def _grad_cam(a: Tensor, g: Tensor) -> Tensor:
    """Selvaraju et al., eq. 1 and 2 before the ReLU: alpha_k = 1/Z sum_ij g_kij, map = sum_k alpha_k A_k."""
    channels, rows, columns = a.shape
    found = torch.zeros(rows, columns, dtype=torch.float64)
    for k in range(channels):
        alpha = sum(g[k, i, j].item() for i in range(rows) for j in range(columns)) / (rows * columns)
        for i in range(rows):
            for j in range(columns):
                found[i, j] += alpha * a[k, i, j]
    return found


def _grad_cam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    """Chattopadhay et al., eq. 19 and 7, for Y = exp(S), over exp(S): Y' = Y g, Y'' = Y g^2, Y''' = Y g^3."""
    channels, rows, columns = a.shape
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    y = 1.7  # exp(S) of any S: it cancels in alpha, and the paper's map is this one times it
    found = torch.zeros(rows, columns, dtype=torch.float64)
    for k in range(channels):
        whole = sum(a[k, i, j].item() for i, j in cells)
        weight = 0.0
        for i, j in cells:
            slope = g[k, i, j].item()
            second, third = y * slope**2, y * slope**3
            alpha = second / (2 * second + whole * third)
            weight += alpha * max(y * slope, 0.0)
        for i, j in cells:
            found[i, j] += weight * a[k, i, j]
    return found / y


def _cell_by_cell(weigh: Callable[[float], float]) -> Callable[[Tensor, Tensor], Tensor]:
    def cam(a: Tensor, g: Tensor) -> Tensor:
        channels, rows, columns = a.shape
        found = torch.zeros(rows, columns, dtype=torch.float64)
        for k in range(channels):
            for i in range(rows):
                for j in range(columns):
                    found[i, j] += weigh(g[k, i, j].item()) * a[k, i, j]
        return found

    return cam


CAMS: list[tuple[Method, Callable[[Tensor, Tensor], Tensor]]] = [
    (GradCam(), _grad_cam),
    (GradCamPlusPlus(), _grad_cam_plus_plus),
    (HiResCam(), _cell_by_cell(lambda g: g)),
    (LayerCam(), _cell_by_cell(lambda g: max(g, 0.0))),
]


@each_score
@pytest.mark.parametrize(("method", "paper"), CAMS, ids=[method.name for method, _ in CAMS])
def test_cam_is_the_papers(method: Method, paper: Callable[[Tensor, Tensor], Tensor], name: str) -> None:
    """Loops over channels and cells, with the layer's gradient by finite differences."""
    model, images = _model(), _images()
    net = model.net
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        with torch.no_grad():
            activations = net.front(image[None])[0]
        gradients = _differences(net.back, NAIVE[name], activations, target)
        expected.append(paper(activations, gradients))
    _assert_same(_maps(method, model, images, name), torch.stack(expected))


@each_score
def test_gradient_is_the_slope(name: str) -> None:
    """Of every pixel by finite differences, summed over the channels; times the pixel for input x gradient."""
    model, images = _model(), _images()
    slopes = [_differences(model.net, NAIVE[name], x, c) for x, c in zip(images, TARGETS, strict=True)]
    _assert_same(_maps(Gradient(), model, images, name), torch.stack([g.sum(dim=0) for g in slopes]))
    shares = torch.stack([(x * g).sum(dim=0) for x, g in zip(images, slopes, strict=True)])
    _assert_same(_maps(InputXGradient(), model, images, name), shares)


def _riemann(net: nn.Module, formula: Formula, image: Tensor, target: int, baseline: float) -> Tensor:
    """Sundararajan et al., eq. 3, at the middles of 400 pieces of the line."""
    away = image - baseline
    along = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    points = (baseline + along[:, None, None, None] * away).requires_grad_()
    (gradients,) = torch.autograd.grad(formula(net(points), target).sum(), points)
    total = gradients.mean(dim=0)
    return (away * total).sum(dim=0)


@each_score
@pytest.mark.parametrize("baseline", [0.0, -0.7])
def test_integrated_gradients_is_the_integral(name: str, baseline: float) -> None:
    """Against a sum of 400 middles, whose own error is about 1e-6."""
    model, images = _model(), _images() / 2
    expected = [_riemann(model.net, NAIVE[name], x, c, baseline) for x, c in zip(images, TARGETS, strict=True)]
    found = _maps(IntegratedGradients(baseline=baseline), model, images, name)
    _assert_same(found, torch.stack(expected), relative=1e-5)


@each_score
@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_integrated_gradients_is_complete(name: str, baseline: float) -> None:
    """The map sums to the score's change from the baseline image."""
    model, images = _model(), _images() / 2
    found = _maps(IntegratedGradients(steps=32, baseline=baseline), model, images, name).sum(dim=(1, 2))
    for i, target in enumerate(TARGETS):
        ends = torch.stack([images[i], torch.full_like(images[i], baseline)])
        with torch.no_grad():
            after, before = NAIVE[name](model.net(ends), target)
        assert found[i].item() == pytest.approx((after - before).item(), rel=1e-8)


class _Mirror(nn.Module):
    """Its first logit is half the image's square sum, so that its gradient is the image as it was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        first = self.weight * x.square().sum(dim=(1, 2, 3))
        return torch.stack([first, torch.zeros_like(first), -first, first - 1], dim=1)


def _clouds(images: Tensor, count: int, noise: float = 0.15, seed: int = 0) -> list[Tensor]:
    """The first noise samples that SmoothGrad adds to one-channel images, read in a mirror."""
    model = wrap(_Mirror(), input_size=tuple(images.shape[1:]))
    tape = Tape(model, Batch(tuple(str(i) for i in range(len(images))), images, torch.zeros(len(images)).long()))
    sums = [torch.zeros_like(images[:, 0])]
    for samples in range(1, count + 1):
        (found,) = SmoothGrad(samples=samples, noise=noise, seed=seed).maps(tape, [scores.build("logit")])
        assert isinstance(found, Tensor)
        sums.append(samples * (found - images[:, 0]))
    return [after - before for before, after in itertools.pairwise(sums)]


def test_smooth_grad_noise_is_as_stated() -> None:
    """Normal, of mean zero and of 0.15 of each image's own range; new for every sample, image and seed."""
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images[1] *= 40
    first, second = _clouds(images, 2)
    spread = 0.15 * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))
    standard = first / spread[:, None, None]
    assert standard.mean(dim=(1, 2)).tolist() == pytest.approx([0, 0], abs=4 / 64)
    assert standard.std(dim=(1, 2)).tolist() == pytest.approx([1, 1], abs=0.05)
    assert (standard**4).mean(dim=(1, 2)).tolist() == pytest.approx([3, 3], abs=0.5)
    (other_seed,) = _clouds(images, 1, seed=1)
    flat = torch.stack([standard[0], standard[1], second[0], other_seed[0]]).reshape(4, -1)
    off_diagonal = torch.corrcoef(flat) - torch.eye(4)
    assert float(off_diagonal.abs().max()) < 4 / 64
    (wider,) = _clouds(images, 1, noise=0.3)
    torch.testing.assert_close(wider, 2 * first, rtol=1e-9, atol=1e-9)


@each_score
def test_smooth_grad_is_the_mean_of_noisy_gradients(name: str) -> None:
    """Smilkov et al.: 1/n sum of the gradients at x plus noise, by finite differences."""
    model, images = _model(1), _images(1)
    clouds = _clouds(images, 3)
    expected = torch.zeros(2, 7, 7, dtype=torch.float64)
    for i, target in enumerate(TARGETS):
        for cloud in clouds:
            expected[i] += _differences(model.net, NAIVE[name], images[i] + cloud[i], target)[0] / 3
    _assert_same(_maps(SmoothGrad(samples=3), model, images, name), expected)


def test_smooth_grad_is_the_same_again_and_in_any_batch() -> None:
    """To the last bit a second time, and to rounding when an image is alone or elsewhere in the batch."""
    model, images = _model(1), _images(1)
    whole = _maps(SmoothGrad(), model, images, "log_odds")
    assert torch.equal(whole, _maps(SmoothGrad(), model, images, "log_odds"))
    assert not torch.allclose(whole, _maps(SmoothGrad(seed=1), model, images, "log_odds"))
    for i, target in enumerate(TARGETS):
        alone = Tape(model, Batch(("a",), images[i : i + 1], torch.tensor([target])))
        (found,) = SmoothGrad().maps(alone, [scores.build("log_odds")])
        assert isinstance(found, Tensor)
        _assert_same(found, whole[i : i + 1], relative=1e-12)


def test_smooth_grad_of_a_constant_image_is_its_gradient() -> None:
    """An image without range gets no noise."""
    model, images = _model(1), torch.full((2, 1, 7, 7), 0.3, dtype=torch.float64)
    _assert_same(_maps(SmoothGrad(), model, images, "logit"), _maps(Gradient(), model, images, "logit"), 1e-12)


def _hidden(image: Tensor, place: tuple[int, int], grid: int, window: float, fill: str) -> Tensor:
    """The image with every pixel painted whose middle lies within half a window of the cell's middle, one by one."""
    channels, rows, columns = image.shape
    found = image.clone()
    for row in range(rows):
        for column in range(columns):
            down = abs((row + 0.5) * grid / rows - (place[0] + 0.5))
            across = abs((column + 0.5) * grid / columns - (place[1] + 0.5))
            if max(down, across) < window / 2:
                for channel in range(channels):
                    found[channel, row, column] = image[channel].mean() if fill == "mean" else 0.0
    return found


@each_score
@pytest.mark.parametrize("fill", ["mean", "zero"])
@pytest.mark.parametrize(("grid", "window"), [(1, 1.0), (3, 1.0), (3, 1.5), (4, 2.0), (7, 1.0), (7, 3.0)])
def test_occlusion_is_the_fall(name: str, fill: str, grid: int, window: float) -> None:
    """One image, one cell and one forward pass at a time, pixel by pixel; squares are cut off at the image's edge."""
    model, images = _model(), _images()
    expected = torch.zeros(2, grid, grid, dtype=torch.float64)
    for n, target in enumerate(TARGETS):
        for i in range(grid):
            for j in range(grid):
                hidden = _hidden(images[n], (i, j), grid, window, fill)
                with torch.no_grad():
                    before, after = (NAIVE[name](model.net(x[None]), target) for x in (images[n], hidden))
                expected[n, i, j] = (before - after).item()
    found = _maps(Occlusion(grid=grid, window=window, fill=fill), model, images, name)
    _assert_same(found, expected, relative=1e-9)


@each_score
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (2, 2), (4, 3), (9, 5)])
def test_sliding_occlusion_is_the_mean_fall(name: str, size: int, stride: int) -> None:
    """Every pixel's mean over the windows that hide it; they move on until one has reached the edge."""
    model, images = _model(), _images()
    firsts = [0]
    while firsts[-1] + size < 7:
        firsts.append(firsts[-1] + stride)
    expected = torch.zeros(2, 7, 7, dtype=torch.float64)
    for n, target in enumerate(TARGETS):
        falls: dict[tuple[int, int], list[float]] = {place: [] for place in itertools.product(range(7), repeat=2)}
        for top, left in itertools.product(firsts, repeat=2):
            hidden, places = images[n].clone(), []
            for row, column in falls:
                if top <= row < top + size and left <= column < left + size:
                    hidden[:, row, column] = images[n].mean(dim=(1, 2))
                    places.append((row, column))
            with torch.no_grad():
                before, after = (NAIVE[name](model.net(x[None]), target) for x in (images[n], hidden))
            for place in places:
                falls[place].append((before - after).item())
        for (row, column), found in falls.items():
            expected[n, row, column] = sum(found) / len(found)
    made = _maps(SlidingOcclusion(size=size, stride=stride), model, images, name)
    _assert_same(made, expected, relative=1e-9)


@pytest.mark.parametrize("method", [Occlusion(grid=3, fill="inpaint"), SlidingOcclusion(size=3, stride=2)])
def test_five_scores_of_occlusion_share_their_passes(method: Method) -> None:
    """One forward pass for each window, however many scores."""
    for asked in (["logit"], list(NAIVE)):
        model, passes = _model(), []
        model.net.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        batch = Batch(("a", "b"), _images(), torch.tensor(TARGETS))
        assert len(method.maps(Tape(model, batch), [scores.build(name) for name in asked])) == len(asked)
        assert len(passes) == 1 + 9


@pytest.mark.parametrize("fill", ["blur", "noise", "inpaint"])
def test_occlusion_with_every_fill_is_the_fall(fill: str) -> None:
    """The fill's own picture in the window, the image's around it."""
    model, images = _model(), _images()
    found = _maps(Occlusion(grid=7, window=3.0, fill=fill, seed=6), model, images, "log_odds")
    for row, column in ((0, 0), (3, 2), (6, 4)):
        keep = torch.ones(1, 7, 7, dtype=torch.float64)
        keep[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 0
        hidden = hiding(images, fill, 6).through(keep)
        for n, target in enumerate(TARGETS):
            with torch.no_grad():
                before, after = (NAIVE["log_odds"](model.net(x[n : n + 1]), target) for x in (images, hidden))
            assert float(found[n, row, column]) == pytest.approx((before - after).item(), rel=1e-9)


@pytest.mark.parametrize(("name", "bad"), [("size", 0), ("stride", 0), ("stride", 33), ("seed", -1)])
def test_bad_parameters_of_sliding_occlusion_are_refused(name: str, bad: int) -> None:
    """By name."""
    with pytest.raises(CallError, match=f"The '{name}' parameter of SlidingOcclusion must be"):
        SlidingOcclusion(**{name: bad})


@pytest.mark.parametrize("grid", range(1, 8))
def test_occlusion_of_a_linear_network_adds_up(grid: int) -> None:
    """Windows of one cell hide every pixel exactly once: a zero-filled map sums to the logit less its bias."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 7 * 7, 4)).double()
    model = wrap(net, input_size=(2, 7, 7), head="softmax")
    images = _images()
    found = _maps(Occlusion(grid=grid, window=1.0, fill="zero"), model, images, "logit").sum(dim=(1, 2))
    with torch.no_grad():
        whole = net(images) - net[1].bias
    assert found.tolist() == pytest.approx([whole[0, TARGETS[0]].item(), whole[1, TARGETS[1]].item()], rel=1e-10)
