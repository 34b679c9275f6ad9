"""The model that is given, whatever it is wrapped in: explained right, or refused in one sentence; never changed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fukusen
from fukusen.arrays import Batch, Images
from fukusen.auditing import examine, examine_model, make_plan
from fukusen.errors import ModelError
from fukusen.models import Classifier, wrap
from fukusen.models.evaluation import evaluating

SIZE = (3, 12, 12)
METHODS = ("grad_cam", "gradient", "lrp", "deep_lift", "guided_backprop", "full_grad", "occlusion")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


class _Net(nn.Module):
    """Batch norm, dropout, a ReLU in place that is used twice, and a convolution that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.middle = nn.Conv2d(6, 6, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.act(self.norm(self.stem(images)))
        values = self.act(self.middle(values))
        return self.head(self.drop(values.mean((2, 3))))


class _Shared(_Net):
    def forward(self, images: Tensor) -> Tensor:
        values = self.act(self.norm(self.stem(images)))
        values = self.act(self.middle(self.act(self.middle(values))))
        return self.head(self.drop(values.mean((2, 3))))


class _IntegerWeights(nn.Module):
    """A linear layer whose weights are kept as integers, and are numbers again before they are used."""

    def __init__(self, given: nn.Linear) -> None:
        super().__init__()
        scale = given.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("kept", (given.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", given.bias.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.linear(values, self.kept.to(self.scale.dtype) * self.scale, self.bias)


def _changed(change: Callable[[_Net], object], kind: type[_Net] = _Net) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        net = kind().eval()
        change(net)
        return net

    return make


def _half_frozen(net: _Net) -> None:
    net.stem.requires_grad_(requires_grad=False)
    net.norm.weight.requires_grad_(requires_grad=False)


def _with_gradients(net: _Net) -> None:
    net(torch.ones(1, *SIZE)).sum().backward()


def _hooked(net: _Net) -> None:
    net.stem.register_forward_hook(lambda _module, _inputs, output: output * 1.0)
    net.norm.register_forward_pre_hook(lambda _module, _inputs: None)
    net.head.register_full_backward_hook(lambda _module, _into, _out: None)
    net.middle.register_forward_hook(lambda _module, _inputs, _output: None, always_call=True)


def _compiled(backend: str) -> Callable[[], nn.Module]:
    return lambda: torch.compile(_Net().eval(), backend=backend)


def _compiled_in_place(backend: str) -> Callable[[], nn.Module]:
    return _changed(lambda net: net.compile(backend=backend))


def _compiled_part(backend: str) -> Callable[[], nn.Module]:
    return _changed(lambda net: setattr(net, "middle", nn.Sequential(torch.compile(net.middle, backend=backend))))


def _run_before(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """As it is when it comes to us: compiled already, without our hooks."""

    def made() -> nn.Module:
        net = make()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            net(torch.ones(2, *SIZE))
        return net

    return made


SOUND: dict[str, Callable[[], nn.Module]] = {
    "training": _changed(lambda net: net.train()),
    "partly training": _changed(lambda net: net.norm.train()),
    "frozen": _changed(lambda net: net.requires_grad_(requires_grad=False)),
    "half frozen": _changed(_half_frozen),
    "with gradients": _changed(_with_gradients),
    "with hooks": _changed(_hooked),
    "data parallel": lambda: nn.DataParallel(_Net().eval()),
    "data parallel inside": lambda: nn.Sequential(nn.DataParallel(_Net().eval())),
    "compiled": _run_before(_compiled("eager")),
    "compiled ahead": _run_before(_compiled("aot_eager")),
    "compiled in place": _run_before(_compiled_in_place("eager")),
    "compiled in place ahead": _run_before(_compiled_in_place("aot_eager")),
    "a part compiled": _run_before(_compiled_part("eager")),
    "a part compiled ahead": _run_before(_compiled_part("aot_eager")),
}
# LRP says that it has no rule for a backward hook, nor for the compiled part of the copy that it runs.
WITHOUT = {"with hooks": {"lrp"}, "a part compiled": {"lrp"}, "a part compiled ahead": {"lrp"}}


def _state(net: nn.Module) -> list[object]:
    """Everything of a network that a stranger could have changed, and the modes of torch."""
    modules, held = list(net.modules()), [*net.named_parameters(), *net.named_buffers()]
    return [
        [(id(module), module.training) for module in modules],
        [[(kind, list(vars(module).get(kind, {}).items())) for kind in HOOKS] for module in modules],
        [(name, id(value), value._version, value.requires_grad, value.is_leaf) for name, value in held],
        [(name, value.detach().clone().tolist()) for name, value in held],
        [(name, None if value.grad is None else (id(value.grad), value.grad.tolist())) for name, value in held],
        [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_rng_state().tolist()],
    ]


def _images() -> Images:
    return torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(4))


def _visit(model: Classifier, methods: Sequence[str] = METHODS) -> None:
    """Everything that an audit does to a network, on two images."""
    plan = make_plan("quick", methods_asked=methods, scores_asked=["logit", "log_odds"])
    examine(model, Batch(("a", "b"), _images()), plan.tasks(["a", "b"])["a"])
    examine_model(model, plan)
    assert len(model.digest) == 16


@pytest.fixture(scope="module")
def expected() -> Any:
    return fukusen.explain(wrap(_Net().eval(), input_size=SIZE), _images(), methods=METHODS, scores=["log_odds"])


@pytest.mark.parametrize("which", SOUND)
def test_it_is_explained_right_and_left_alone(which: str, expected: Any) -> None:
    net = SOUND[which]()
    methods = [method for method in METHODS if method not in WITHOUT.get(which, ())]
    before = _state(net)
    model = wrap(net, input_size=SIZE)
    assert _state(net) == before
    _visit(model, methods)
    assert _state(net) == before
    found = fukusen.explain(model, _images(), methods=methods, scores=["log_odds"])
    assert _state(net) == before
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
    for method in methods:
        maps = found[method, "log_odds"]
        torch.testing.assert_close(maps, expected[method, "log_odds"], rtol=1e-3, atol=1e-5 * float(maps.abs().max()))


@pytest.mark.parametrize("which", ["compiled", "compiled in place", "data parallel"])
def test_what_it_is_wrapped_in_changes_no_digest(which: str) -> None:
    assert wrap(SOUND[which](), input_size=SIZE).digest == wrap(_Net().eval(), input_size=SIZE).digest


def test_what_was_compiled_is_compiled_again_afterwards() -> None:
    ran: list[str] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        ran.append("compiled")
        return graph.forward

    net = torch.compile(_Net().eval(), backend=backend)
    wrap(net, input_size=SIZE)
    assert ran == []
    with torch.no_grad():
        net(torch.ones(2, *SIZE))
    assert ran == ["compiled"]
    with pytest.raises(RuntimeError, match="inside"), evaluating(net):
        raise RuntimeError("inside")
    with torch.no_grad():
        net(torch.ones(3, *SIZE))
    assert len(ran) == 2


def test_a_module_that_is_used_twice_is_left_alone() -> None:
    net = _Shared().train()
    before = _state(net)
    model = wrap(net, input_size=SIZE, layer="middle#0")
    _visit(model)
    assert _state(net) == before
    twin = copy.deepcopy(net).double().eval()
    leaf = _images().double().requires_grad_()
    logits = twin(leaf)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), leaf)
    found = fukusen.explain(model, _images(), targets=1, methods=["gradient"], scores=["logit"])["gradient", "logit"]
    torch.testing.assert_close(found.double(), gradient.sum(dim=1), rtol=1e-4, atol=1e-6)


def test_weights_kept_as_integers_are_weights() -> None:
    """Numbers again before they are used, they let gradients through: everything is explained."""
    net = _Net().eval()
    rounded = copy.deepcopy(net)
    net.head = _IntegerWeights(net.head)
    rounded.head.weight.data = net.head.kept * net.head.scale
    before = _state(net)
    asked: dict[str, Any] = {"methods": ["grad_cam", "gradient", "occlusion"], "scores": ["log_odds"]}
    found, expected = (fukusen.explain(wrap(one, input_size=SIZE), _images(), **asked) for one in (net, rounded))
    assert _state(net) == before
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-7)


def _dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(_Net().eval(), {nn.Linear}, dtype=torch.qint8)


def _static() -> nn.Module:
    class Quantised(_Net):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()

        def forward(self, images: Tensor) -> Tensor:
            return self.out(super().forward(self.into(images)))

    net = Quantised().eval()
    net.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)
    net = torch.ao.quantization.prepare(net)
    net(_images())
    return torch.ao.quantization.convert(net)


QUANTISED = {
    "1 Linear": _dynamic,
    "1 BatchNorm2d, 2 Conv2d, 1 Dropout, 1 Linear": _static,
}


def _quantised(kinds: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this way of quantising will be another package's
        return QUANTISED[kinds]()


def _bits(net: nn.Module) -> list[object]:
    """Weights that are no tensors of the module are told by what it saves."""
    return [_state(net), {name: str(value) for name, value in net.state_dict().items()}]


@pytest.mark.parametrize("kinds", QUANTISED)
def test_of_a_quantised_network_only_its_behaviour_is_explained(kinds: str) -> None:
    net = _quantised(kinds)
    before = _bits(net)
    model = wrap(net, input_size=SIZE)
    said = (
        f"The network is quantised ({kinds}): its integers have no gradients, so nothing but its behaviour can be "
        'explained, as methods=["occlusion"] does. For anything else give the float network that it was made from.'
    )
    assert said in model.notes
    for method in ("grad_cam", "gradient", "integrated_gradients", "guided_backprop", "deep_lift", "full_grad"):
        with pytest.raises(ModelError) as caught:
            fukusen.explain(model, _images(), methods=[method])
        assert str(caught.value) == said
    with pytest.raises(ModelError):
        _visit(model)
    panel = fukusen.explain(model, _images(), methods=["occlusion"], scores=["log_odds"])
    exact = fukusen.explain(wrap(_Net().eval(), input_size=SIZE), _images(), methods=["occlusion"], scores=["log_odds"])
    torch.testing.assert_close(panel["occlusion", "log_odds"], exact["occlusion", "log_odds"], rtol=0.2, atol=0.05)
    assert _bits(net) == before


@pytest.mark.parametrize("kinds", QUANTISED)
def test_the_digest_of_a_quantised_network_sees_its_weights(kinds: str) -> None:
    first, again, other = (_quantised(kinds) for _ in range(3))
    weight = other.head.weight()
    scales = weight.q_per_channel_scales() if weight.qscheme() == torch.per_channel_affine else None
    moved = weight.dequantize()
    moved[0, 0] = -moved[0, 0]
    if scales is None:
        moved = torch.quantize_per_tensor(moved, weight.q_scale(), weight.q_zero_point(), weight.dtype)
    else:
        moved = torch.quantize_per_channel(moved, scales, weight.q_per_channel_zero_points(), 0, weight.dtype)
    other.head.set_weight_bias(moved, other.head.bias())
    digests = [wrap(net, input_size=SIZE).digest for net in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]


class _Shut(_Net):
    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


def _inferred() -> nn.Module:
    with torch.inference_mode():
        return _Net().eval()


def test_a_network_without_gradients_says_so() -> None:
    """The layer's own gradients are still there, and so is behaviour."""
    net = _Shut().eval()
    before = _state(net)
    model = wrap(net, input_size=SIZE)
    assert model.notes[-1].startswith("No gradient comes back from the network's outputs: it switches gradients off")
    with pytest.raises(ModelError) as caught:
        fukusen.explain(model, _images(), methods=["gradient"])
    assert str(caught.value) == model.notes[-1]
    fukusen.explain(model, _images(), methods=["grad_cam", "occlusion"])
    assert _state(net) == before


def test_weights_made_in_inference_mode_are_refused_with_a_remedy() -> None:
    net = _inferred()
    with pytest.raises(ModelError) as caught:
        wrap(net, input_size=SIZE)
    assert str(caught.value) == (
        "The network's weights were made under torch.inference_mode, and no gradient can go through them. Give a "
        "copy that is made outside of it: copy.deepcopy(net)."
    )
    _visit(wrap(copy.deepcopy(net), input_size=SIZE))


def test_what_raises_only_where_gradients_are_on_is_told() -> None:
    net = _Net().eval()
    net.norm.register_full_backward_hook(lambda _module, _into, _out: None)
    before = _state(net)
    with pytest.raises(ModelError, match=r"The network runs on images, but not where gradients are on: Output 0 of"):
        wrap(net, input_size=SIZE)
    assert _state(net) == before


def test_torchscript_is_explained_in_one_piece() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript has a successor
        whole, part = torch.jit.script(_Net().eval()), nn.Sequential(torch.jit.script(_Net().eval()))
    expected = fukusen.explain(wrap(_Net().eval(), input_size=SIZE), _images(), methods=["gradient"], scores=["logit"])
    for net in (whole, part):
        model = wrap(net, input_size=SIZE)
        found = fukusen.explain(model, _images(), methods=["gradient"], scores=["logit"])
        torch.testing.assert_close(found["gradient", "logit"], expected["gradient", "logit"], rtol=1e-4, atol=1e-6)
        assert not any(
            module._forward_hooks for module in net.modules() if not isinstance(module, torch.jit.ScriptModule)
        )


def test_a_hook_that_cannot_be_set_leaves_none_behind() -> None:
    class Closed(nn.Conv2d):
        def register_forward_hook(self, *_given: Any, **_named: Any) -> Any:
            raise RuntimeError("closed")

    net = _Net().eval()
    net.middle = Closed(6, 6, 3, padding=1)
    with pytest.raises(ModelError, match="closed"):
        wrap(net, input_size=SIZE)
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed")
def test_a_distributed_wrapper_is_taken_off(tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        net = _Net().eval()
        before = [(value.requires_grad, value.tolist()) for value in net.parameters()]
        spread = nn.parallel.DistributedDataParallel(net)
        model = wrap(spread, input_size=SIZE)
        assert model.net is net
        _visit(model)
        assert [(value.requires_grad, value.tolist()) for value in net.parameters()] == before
    finally:
        torch.distributed.destroy_process_group()
