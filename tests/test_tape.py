"""One forward pass, three backward passes for five scores, and a model that is left exactly as it was found."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Maps
from fukusen.auditing.plan import STANDARD_SCORES
from fukusen.errors import CallError
from fukusen.methods import IntegratedGradients, Occlusion, SmoothGrad, methods
from fukusen.models import INPUT, Classifier, Layer, wrap
from fukusen.scores import CenteredLogit, Logit, LogOdds, Probability, Score, scores
from fukusen.tape import Tape

ALL = tuple(scores.build(name) for name in STANDARD_SCORES)
SINGLE = tuple(name for name in methods.names() if methods.get(name).single_pass)


class _Passing(torch.autograd.Function):
    """The identity, which counts in its place both ways."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, counter: Counter[str], place: str) -> Tensor:
        ctx.counter, ctx.place = counter, place
        counter[f"{place} forward"] += 1
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        ctx.counter[f"{ctx.place} backward"] += 1
        return above[0], None, None


class _Counted(nn.Module):
    """A convolutional network that counts its passes below and above its layer."""

    counter: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.back = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        below = _Passing.apply(x, self.counter, "below")
        middle = self.act(self.front(below))
        above = _Passing.apply(middle.mean(dim=(2, 3)), self.counter, "above")
        return self.back(above)


class _Deep(nn.Module):
    """Batch norm, an in-place ReLU that is called twice, a dropout, a buffer, and an overridden train()."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.drop, self.head = nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(6, 5)
        self.register_buffer("scale", torch.full((1,), 1.5))
        self.breaks = False
        self.ran_training = 0

    def forward(self, x: Tensor) -> Tensor:
        self.ran_training += self.training
        hidden = self.relu(self.norm(self.first(x)))
        hidden = self.relu(self.second(hidden)) * self.scale
        if self.breaks:
            raise RuntimeError("broken on purpose")
        return self.head(self.drop(hidden.mean(dim=(2, 3))))


def _deep(seed: int = 0) -> _Deep:
    torch.manual_seed(seed)
    net = _Deep()
    nn.init.normal_(net.norm.running_mean, std=0.1)
    nn.init.uniform_(net.norm.running_var, 0.5, 1.5)
    return net


def _images(count: int = 3, seed: int = 3) -> Tensor:
    return torch.randn(count, 3, 10, 10, generator=torch.Generator().manual_seed(seed))


def _batch(count: int = 3, seed: int = 3) -> Batch:
    return Batch(tuple(f"image {i}" for i in range(count)), _images(count, seed))


@pytest.fixture
def counted() -> Iterator[Classifier]:
    """The counting network, wrapped, with its counters at zero."""
    torch.manual_seed(0)
    model = wrap(_Counted().eval(), input_size=(3, 10, 10), layer="front")
    _Counted.counter.clear()
    yield model
    _Counted.counter.clear()


def _state(net: nn.Module) -> dict[str, Any]:
    """Everything that a visitor could have changed, by value where it has one and else by identity."""
    found: dict[str, Any] = {}
    for name, module in net.named_modules():
        for key, value in vars(module).items():
            hooks = "hooks" in key and isinstance(value, dict)
            if key not in ("ran_training", "_parameters", "_buffers", "_modules"):
                found[f"{name}.{key}"] = list(value.items()) if hooks else repr(value)
        found[f"{name} forward"] = module.forward.__func__
    for name, value in net.named_parameters():
        found[f"{name} flags"] = (value.requires_grad, value.grad, value._version, id(value), value._backward_hooks)
    found |= {f"{name} bytes": value.numpy(force=True).tobytes() for name, value in net.state_dict().items()}
    return found


def _panel(model: Classifier, batch: Batch) -> list[Maps]:
    tape = Tape(model, batch)
    found = [maps for name in SINGLE for maps in methods.build(name).maps(tape, ALL)]
    assert all(isinstance(maps, Tensor) for maps in found)
    return found


def test_nothing_runs_until_something_is_asked(counted: Classifier) -> None:
    """Making a tape costs nothing."""
    Tape(counted, _batch())
    assert _Counted.counter == Counter()


def test_five_scores_take_one_forward_and_three_backward_passes(counted: Classifier) -> None:
    """At the layer and at the input together, however often they are asked for."""
    tape = Tape(counted, _batch())
    layer = tape.layers[0]
    for _ in range(2):
        for score in ALL:
            tape.gradient(score, layer)
            tape.gradient(score, INPUT)
            tape.value(score)
        assert tape.logits.shape == (3, 5)
        assert tape.activations(layer).shape == (3, 4, 8, 8)
    assert _Counted.counter == {"below forward": 1, "above forward": 1, "above backward": 3, "below backward": 3}


def test_the_whole_gradient_panel_takes_no_more(counted: Classifier) -> None:
    """All single-pass methods and all scores: one forward pass and three backward passes."""
    _panel(counted, _batch())
    assert _Counted.counter["below forward"] == 1
    assert _Counted.counter["below backward"] == 3


def test_a_tape_for_cams_stops_at_the_layer(counted: Classifier) -> None:
    """No backward pass goes below the layer, and the gradients there are the same to the last bit."""
    whole, short = Tape(counted, _batch()), Tape(counted, _batch(), at_input=False)
    layer = whole.layers[0]
    expected = [whole.gradient(score, layer) for score in ALL]
    _Counted.counter.clear()
    found = [short.gradient(score, layer) for score in ALL]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(short.logits, whole.logits)
    assert torch.equal(short.activations(layer), whole.activations(layer))
    assert _Counted.counter == {"below forward": 1, "above forward": 1, "above backward": 3}


def test_a_tape_for_cams_refuses_the_input(counted: Classifier) -> None:
    """It says so instead of giving zeros; so does a tape without layers."""
    with pytest.raises(CallError, match="keeps no gradient at 'input'"):
        Tape(counted, _batch(), at_input=False).gradient(Logit(), INPUT)
    bare = Tape(counted, _batch(), layers=())
    assert bare.gradient(Logit(), INPUT).shape == (3, 3, 10, 10)
    with pytest.raises(CallError, match="keeps no gradient at 'front'"):
        bare.gradient(Logit(), counted.layer or INPUT)


def test_logits_alone_keep_no_graph(counted: Classifier) -> None:
    """A tape that is asked for no gradient holds none."""
    tape = Tape(counted, _batch(), layers=(), at_input=False)
    assert not tape._capture.logits.requires_grad
    assert not tape.logits.requires_grad


@pytest.mark.parametrize(
    ("targets", "message"),
    [([0, 1, 5], "3 class indices from 0 to 4.*Got \\[0, 1, 5\\]"), ([-1, 0, 0], "Got \\[-1, 0, 0\\]")],
)
def test_bad_targets_are_refused(counted: Classifier, targets: list[int], message: str) -> None:
    """Too large and negative ones; the message names them."""
    batch = Batch(("a", "b", "c"), _images(), torch.tensor(targets))
    with pytest.raises(CallError, match=message):
        _ = Tape(counted, batch).targets


def test_images_of_another_size_are_refused(counted: Classifier) -> None:
    """Before anything runs."""
    with pytest.raises(CallError, match="The 'batch' parameter of Tape must be images of shape \\(3, 10, 10\\)"):
        Tape(counted, Batch(("a",), torch.zeros(1, 3, 9, 10)))


def _plain(net: _Deep, score: Score, targets: Tensor, call: int) -> tuple[Tensor, Tensor]:
    """Input and ReLU-output gradients by autograd on an untouched copy whose ReLU is not in place."""
    twin = copy.deepcopy(net).double().eval()
    x = _images().double().requires_grad_()
    outputs = [torch.relu(twin.norm(twin.first(x)))]
    outputs.append(torch.relu(twin.second(outputs[0])))
    logits = twin.head((outputs[1] * twin.scale).mean(dim=(2, 3)))
    found = torch.autograd.grad(logits, [x, outputs[call]], score.cotangent(logits.detach(), targets))
    return found[0], found[1]


@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("score", ALL, ids=lambda score: score.name)
def test_gradients_are_autograds(score: Score, call: int, training: bool) -> None:
    """At the input, and at either call of a module that is used twice and works in place."""
    net = _deep().train(training).double()
    model = wrap(net, input_size=(3, 10, 10), layer=f"relu#{call}")
    tape = Tape(model, Batch(("a", "b", "c"), _images(), torch.tensor([0, 2, 4])))
    at_input, at_layer = _plain(net, score, tape.targets, call)
    assert model.layer == Layer("relu", call, "channels_first", (6, 10, 10))
    torch.testing.assert_close(tape.gradient(score, INPUT), at_input, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(tape.gradient(score, model.layer), at_layer, rtol=1e-10, atol=1e-14)


def test_activations_are_what_the_layer_put_out() -> None:
    """An in-place ReLU after the layer changes neither them nor the gradients there."""
    model = wrap(_deep().eval(), input_size=(3, 10, 10), layer="norm")
    tape = Tape(model, _batch())
    assert model.layer is not None
    kept, gradient = tape.activations(model.layer), tape.gradient(LogOdds(), model.layer)
    twin = copy.deepcopy(model.net)
    assert torch.equal(kept, twin.norm(twin.first(_images())))
    assert bool((kept < 0).any())
    assert bool((gradient[kept < 0] == 0).all())


def _broken(model: Classifier) -> None:
    model.net.breaks = True
    for at_input in (True, False):
        with pytest.raises(RuntimeError, match="broken on purpose"):
            _ = Tape(model, _batch(), at_input=at_input).logits
    model.net.breaks = False


def _no_grad_panel(model: Classifier) -> None:
    with torch.no_grad():
        _panel(model, _batch())


def _inference_panel(model: Classifier) -> None:
    images = _images()
    with torch.inference_mode():
        _panel(model, Batch(("a", "b", "c"), images))


def _others(model: Classifier) -> None:
    """Every method that needs more than one pass, with few of them."""
    cheap = {method.name: method for method in (IntegratedGradients(steps=2), SmoothGrad(samples=2), Occlusion(grid=2))}
    for name in set(methods.names()) - set(SINGLE):
        cheap.get(name, methods.build(name)).maps(Tape(model, _batch()), ALL)


VISITS: dict[str, Callable[[Classifier], Any]] = {
    "panel": lambda model: _panel(model, _batch()),
    "panel under no_grad": _no_grad_panel,
    "panel under inference_mode": _inference_panel,
    "cams only": lambda model: Tape(model, _batch(), at_input=False).gradient(Probability(), model.layer or INPUT),
    "exception in forward": _broken,
    "the other methods": _others,
}


@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
@pytest.mark.parametrize("frozen", [False, True], ids=["free", "frozen"])
def test_the_model_is_left_as_it_was_found(visit: str, training: bool, frozen: bool) -> None:
    """Flags, gradients, hooks, buffers, weights and statistics: not a bit is different."""
    net = _deep().train(training).requires_grad_(not frozen)
    net.drop.training = not training
    net.second.register_forward_hook(lambda _module, _inputs, _output: None)
    net.head.register_full_backward_hook(lambda _module, _into, _out: None)
    before = _state(net)
    model = wrap(net, input_size=(3, 10, 10), layer="second")
    assert _state(net) == before
    VISITS[visit](model)
    assert _state(net) == before
    assert net.ran_training == 0
    assert torch.is_grad_enabled()


def test_the_images_are_left_as_they_were() -> None:
    """The user's tensor gets no gradient and no graph."""
    images = _images()
    kept = images.clone()
    _panel(wrap(_deep(), input_size=(3, 10, 10)), Batch(("a", "b", "c"), images))
    assert torch.equal(images, kept)
    assert not images.requires_grad
    assert images.grad is None


def _in_threads(jobs: list[Callable[[], None]]) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_two_threads_and_a_prediction_do_not_meet() -> None:
    """Panels made at once on one model, while a third thread predicts with it, are those made in turn, bit for bit."""
    net = _deep().eval()
    model = wrap(net, input_size=(3, 10, 10), layer="norm")
    batches = [_batch(seed=seed) for seed in (10, 11)]
    expected = [_panel(model, batch) for batch in batches]
    with torch.no_grad():
        predicted = net(_images())
    wrong: list[str] = []

    def explain(which: int) -> None:
        for _ in range(8):
            found = _panel(model, batches[which])
            if not all(torch.equal(a, b) for a, b in zip(found, expected[which], strict=True)):
                wrong.append(f"panel {which}")

    def predict() -> None:
        with torch.no_grad():
            wrong.extend("prediction" for _ in range(60) if not torch.equal(net(_images()), predicted))

    errors = _in_threads([lambda: explain(0), lambda: explain(1), predict])
    assert errors == []
    assert wrong == []


def test_two_threads_on_a_network_in_training_mode() -> None:
    """A pass that begins while another one runs is evaluated too, also after that one has ended."""
    net = _deep().train()
    before = _state(net)
    model = wrap(net, input_size=(3, 10, 10), layer="norm")
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()

    def first(output: Tensor) -> Tensor:
        first_is_in.set()
        second_is_in.wait(timeout=2)  # times out where the second waits for its turn, which is as good
        return output

    def second(output: Tensor) -> Tensor:
        second_is_in.set()
        assert first_is_out.wait(timeout=10)
        return output

    def run_first() -> None:
        model.run(_images(), edits={Layer("first", 0, "channels_first", (6, 10, 10)): first})
        first_is_out.set()

    def run_second() -> None:
        first_is_in.wait(timeout=10)
        model.run(_images(), edits={Layer("first", 0, "channels_first", (6, 10, 10)): second})

    assert _in_threads([run_first, run_second]) == []
    assert _state(net) == before
    assert net.ran_training == 0


def test_proportional_scores_share_a_gradient_exactly() -> None:
    """Probability is p(1-p) times the log-odds gradient, to the last bit; the common mode is logit minus centred."""
    tape = Tape(wrap(_deep().eval(), input_size=(3, 10, 10)), _batch())
    p = tape.classifier.probabilities(tape.logits).gather(1, tape.targets[:, None])[:, 0]
    odds, probability = tape.gradient(LogOdds(), INPUT), tape.gradient(Probability(), INPUT)
    torch.testing.assert_close(probability, odds * (p * (1 - p)).float()[:, None, None, None], rtol=1e-5, atol=0)
    common = tape.gradient(Logit(), INPUT) - tape.gradient(CenteredLogit(), INPUT)
    leaf = _images().requires_grad_()
    (mean,) = torch.autograd.grad(tape.classifier.net(leaf).mean(dim=1).sum(), leaf)
    torch.testing.assert_close(common, mean, rtol=1e-4, atol=1e-7)
