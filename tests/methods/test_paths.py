"""Integrated gradients that choose their points, and expected gradients: loops over the draws, and captum's."""

from __future__ import annotations

import warnings
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Images
from fukusen.errors import CallError
from fukusen.methods import ExpectedGradients, IntegratedGradients, Method
from fukusen.methods.paths import changes, completeness_error
from fukusen.models import Classifier, wrap
from fukusen.scores import LogOdds, Probability, scores
from fukusen.tape import Tape

TARGETS = (1, 3)
NAMES = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
TWO = [LogOdds(), Probability()]


def _model(kinks: bool = False) -> Classifier:
    torch.manual_seed(5)
    act: list[nn.Module] = [nn.ReLU() if kinks else nn.Tanh(), nn.ReLU() if kinks else nn.Softplus()]
    front = [nn.Conv2d(2, 4, 3, padding=1), act[0], nn.Conv2d(4, 5, 3, stride=2), act[1]]
    net = nn.Sequential(*front, nn.Flatten(), nn.Linear(45, 4)).double().eval()
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(2)
    return wrap(net, input_size=(2, 7, 7), layer="2", head="softmax")


def _images(count: int = 2) -> Images:
    return torch.randn(count, 2, 7, 7, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def _tape(model: Classifier, images: Images | None = None) -> Tape:
    chosen = _images() if images is None else images
    targets = torch.tensor(TARGETS * len(chosen))[: len(chosen)]
    return Tape(model, Batch(tuple(str(i) for i in range(len(chosen))), chosen, targets))


def _maps(method: Method, tape: Tape, name: str) -> Tensor:
    (found,) = method.maps(tape, [scores.build(name)])
    assert isinstance(found, Tensor)
    return found


def _assert_same(found: Tensor, expected: Tensor, relative: float) -> None:
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_changes_are_the_scores_differences(name: str, baseline: float) -> None:
    """Score by score and image by image, from two passes of the bare network."""
    model, images = _model(), _images()
    score = scores.build(name)
    (found,) = changes(_tape(model), [score], baseline)
    with torch.no_grad():
        after, before = model.net(images), model.net(torch.full_like(images, baseline))
    expected = score.value(after, torch.tensor(TARGETS)) - score.value(before, torch.tensor(TARGETS))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("total", "change", "error"),
    [(2.0, 2.0, 0.0), (3.0, 4.0, 0.25), (4.0, 3.0, 0.25), (-1.0, 1.0, 2.0), (0.0, 0.0, 0.0)],
)
def test_the_completeness_error_is_relative_to_the_larger(total: float, change: float, error: float) -> None:
    """From 0 to 2, and a number also where both are zero."""
    maps = torch.zeros(1, 2, 3)
    maps[0, 1, 1] = total
    assert completeness_error(maps, torch.tensor([change])).tolist() == pytest.approx([error])


@pytest.mark.parametrize("tolerance", [0.05, 0.015])
def test_the_steps_are_chosen_by_the_error(tolerance: float) -> None:
    """Every map is the first of 8, 16, 32 and 64 points that is good enough, one by one."""
    tape = _tape(_model(kinks=True), _images(4))
    asked = changes(tape, TWO)
    found = IntegratedGradients(steps=None, tolerance=tolerance, max_steps=64).maps(tape, TWO)
    every = {steps: IntegratedGradients(steps=steps).maps(tape, TWO) for steps in (8, 16, 32, 64)}
    used = set()
    for number, change in enumerate(asked):
        for row in range(4):
            for steps in every:
                one = every[steps][number][row : row + 1]
                if float(completeness_error(one, change[row : row + 1])) <= tolerance:
                    break
            used.add(steps)
            torch.testing.assert_close(found[number][row : row + 1], one)
    assert len(used) > 1


def test_the_most_steps_are_the_most() -> None:
    """Where the error stays above the tolerance, the map is the one of the most steps."""
    tape = _tape(_model(kinks=True))
    found = IntegratedGradients(steps=None, tolerance=1e-12, max_steps=17).maps(tape, TWO)
    for score, maps in zip(TWO, found, strict=True):
        assert isinstance(maps, Tensor)
        torch.testing.assert_close(maps, _maps(IntegratedGradients(steps=16), tape, score.name))


def test_a_map_depends_on_no_other_image_and_score() -> None:
    """Alone an image gets the points that it gets in a batch, and a score those that it gets in a panel."""
    model, images = _model(kinks=True), _images(3)
    method = IntegratedGradients(steps=None, tolerance=0.02, max_steps=32)
    panel = method.maps(_tape(model, images), TWO)
    for number, score in enumerate(TWO):
        together = panel[number]
        assert isinstance(together, Tensor)
        torch.testing.assert_close(_maps(method, _tape(model, images), score.name), together)
        torch.testing.assert_close(_maps(method, _tape(model, images[:1]), score.name), together[:1])


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        (IntegratedGradients, {"steps": 0}, "'steps' parameter of IntegratedGradients must be an int >= 1, or None"),
        (IntegratedGradients, {"tolerance": 0.0}, "'tolerance' parameter of IntegratedGradients must be a number > 0"),
        (IntegratedGradients, {"max_steps": 4}, "'max_steps' parameter of IntegratedGradients must be an int >= 8"),
        (ExpectedGradients, {"samples": 0}, "'samples' parameter of ExpectedGradients must be an int >= 1"),
        (ExpectedGradients, {"spread": 0.0}, "'spread' parameter of ExpectedGradients must be a number > 0"),
    ],
)
def test_bad_parameters_are_refused(method: type, parameters: dict[str, object], message: str) -> None:
    """In the house's one sentence."""
    with pytest.raises(CallError, match=message):
        method(**parameters)


def _slope(model: Classifier, name: str, image: Tensor, target: int) -> Tensor:
    """A score's gradient at one image, by central differences."""
    moves = 1e-5 * torch.eye(image.numel(), dtype=torch.float64).reshape(-1, *image.shape)
    targets = torch.full((len(moves),), target)
    with torch.no_grad():
        ahead, behind = (scores.build(name).value(model.net(image + sign * moves), targets) for sign in (1, -1))
    return ((ahead - behind) / 2e-5).reshape(image.shape)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("baselines", ["noise", "shuffled"])
def test_expected_gradients_is_the_mean_over_the_draws(baselines: str, name: str) -> None:
    """Erion et al.: the mean of (x - x0) ds/dx at x0 + a (x - x0), one draw at a time, by finite differences."""
    model, images = _model(), _images()
    method = ExpectedGradients(samples=5, baselines=baselines, seed=3)
    expected = torch.zeros(2, 7, 7, dtype=torch.float64)
    for along, starts in method.draws(images):
        for row, target in enumerate(TARGETS):
            away = images[row] - starts[row]
            expected[row] += (away * _slope(model, name, starts[row] + along * away, target)).sum(dim=0) / 5
    _assert_same(_maps(method, _tape(model), name), expected, 1e-6)


def test_the_draws_are_as_stated() -> None:
    """One point in each piece of the line, noise of the given spread, the same for all images; pixels in new places."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = list(ExpectedGradients(samples=8, spread=0.5).draws(images))
    assert [int(along * 8) for along, _ in drawn] == list(range(8))
    clouds = torch.stack([starts[0] for _, starts in drawn]).flatten(1)
    assert clouds.mean(dim=1).tolist() == pytest.approx([0.0] * 8, abs=0.04)
    assert clouds.std(dim=1).tolist() == pytest.approx([0.5] * 8, abs=0.03)
    assert float((torch.corrcoef(clouds) - torch.eye(8)).abs().max()) < 0.08
    assert all(torch.equal(starts[0], starts[1]) for _, starts in drawn)
    for _, starts in ExpectedGradients(samples=2, baselines="shuffled").draws(images):
        assert not torch.equal(starts, images)
        for image, start in zip(images, starts, strict=True):
            colours, own = (one.flatten(1).T for one in (start, image))
            assert sorted(colours.tolist()) == sorted(own.tolist())


def test_the_draws_follow_from_the_seed() -> None:
    """The same again, in any batch, and others for another seed."""
    model = _model()
    whole = _maps(ExpectedGradients(), _tape(model), "log_odds")
    assert torch.equal(whole, _maps(ExpectedGradients(), _tape(model), "log_odds"))
    torch.testing.assert_close(_maps(ExpectedGradients(), _tape(model, _images()[:1]), "log_odds"), whole[:1])
    assert not torch.allclose(whole, _maps(ExpectedGradients(seed=1), _tape(model), "log_odds"))


@pytest.mark.parametrize("baselines", ["noise", "shuffled"])
def test_expected_gradients_adds_up_on_average(baselines: str) -> None:
    """To the score less its mean over the baselines, as close as so many draws allow."""
    model, tape = _model(), _tape(_model())
    method = ExpectedGradients(samples=150, baselines=baselines, spread=0.7)
    total = _maps(method, tape, "log_odds").sum(dim=(1, 2))
    before = [LogOdds().value(model.logits(starts), tape.targets) for _, starts in method.draws(tape.batch.images)]
    change = tape.value(LogOdds()) - torch.stack(before).mean(dim=0)
    noise = torch.stack(before).std(dim=0) / 150**0.5
    assert bool(((total - change).abs() < 4 * noise).all())


def test_it_is_captums_for_the_same_draws() -> None:
    """GradientShap, with its random numbers replaced by ours."""
    captum = pytest.importorskip("captum.attr", reason="captum is not installed", exc_type=ImportError)
    model, images = _model(), _images()
    method = ExpectedGradients(samples=6, seed=2)
    drawn = list(method.draws(images))
    starts = torch.stack([start[0] for _, start in drawn])
    along = np.array([share for share, _ in drawn] * 2)
    order = np.array(list(range(6)) * 2)
    with (
        mock.patch("numpy.random.uniform", return_value=along),
        mock.patch("numpy.random.choice", return_value=order),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the peer's own
        peer = captum.GradientShap(model.net)
        expected = peer.attribute(images, baselines=starts, n_samples=6, target=torch.tensor(TARGETS)).sum(dim=1)
    _assert_same(_maps(method, _tape(model), "logit"), expected.detach(), 1e-4)
