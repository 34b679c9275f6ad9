"""Methods read at layers of the user's choice, beside those at the classifier's own."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import fukusen
from fukusen.arrays import Batch
from fukusen.errors import CallError, UnknownName
from fukusen.methods import AtLayer, GradCam, also_at, layers_of, methods, resolution_of
from fukusen.models import Classifier, layer_named, wrap
from fukusen.records import Spec
from fukusen.registry import spec_of
from fukusen.scores import scores
from fukusen.tape import Tape

READERS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "x_grad_cam",
    "hires_cam",
    "layer_cam",
    "eigen_cam",
    "eigen_grad_cam",
    "finer_cam",
    "rsi_grad_cam",
    "guided_grad_cam",
    "ablation_cam",
    "score_cam",
)


@pytest.fixture
def model() -> Classifier:
    """Two convolutions whose outputs have different sizes; its own layer is the second."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    return wrap(nn.Sequential(net, nn.Flatten(), nn.Linear(8, 4)).eval(), input_size=(3, 16, 16), head="softmax")


@pytest.mark.parametrize("name", READERS)
def test_the_maps_are_those_of_a_classifier_read_there(model: Classifier, name: str) -> None:
    """As if the layer had been the model's own, though all come from one forward pass."""
    images = torch.rand(2, 3, 16, 16)
    other = wrap(model.net, input_size=(3, 16, 16), head="softmax", layer="0.0")
    both = fukusen.explain(model, images, methods=[name], layers=["0.0"])
    alone = fukusen.explain(other, images, methods=[name])
    for score in both.scores:
        torch.testing.assert_close(both[f"{name}@0.0", score], alone[name, score], rtol=1e-5, atol=1e-7)


def test_layers_share_the_passes(model: Classifier) -> None:
    """One forward pass, and one backward pass a direction, for both."""
    passes = []
    model.net.register_forward_hook(lambda *_: passes.append("forward"))
    tape = Tape(model, Batch(("a",), torch.rand(1, 3, 16, 16)), layers=(model.layer, layer_named(model, "0.0")))
    logit = scores.build("logit")
    passes.clear()
    GradCam().maps(tape, [logit])
    made = tape.direction_gradient(logit, layer_named(model, "0.0"))
    methods.build("hires_cam@0.0").maps(tape, [logit])
    assert passes == ["forward"]
    assert tape.direction_gradient(logit, layer_named(model, "0.0")) is made


def test_it_is_named_and_built_like_any_method() -> None:
    """By its name, by its spec with parameters, and as a copy."""
    method = methods.build(Spec.of("finer_cam@layer3", gamma=0.5))
    assert isinstance(method, AtLayer)
    assert (method.name, method.layer, method.method.gamma) == ("finer_cam@layer3", "layer3", 0.5)  # type: ignore[attr-defined]
    assert (method.track, method.family, method.leak_share) == ("inner", "cam", 0.5)
    assert methods.build(spec_of(method)) == method
    assert methods.build(method) is method
    assert pickle.loads(pickle.dumps(method)) == copy.deepcopy(method) == method  # noqa: S301


def test_only_methods_that_read_a_layer_are_read_again() -> None:
    """And each at every layer."""
    chosen = [methods.build(name) for name in ("grad_cam", "gradient", "occlusion")]
    assert [one.name for one in also_at(chosen, ["a", "b"])] == [
        "grad_cam",
        "gradient",
        "occlusion",
        "grad_cam@a",
        "grad_cam@b",
    ]
    able = [name for name in methods.names() if len(also_at([methods.build(name)], ["a"])) > 1]
    assert sorted(able) == sorted(READERS)


def test_resolutions_are_known_before_anything_runs(model: Classifier) -> None:
    """And are those of the maps."""
    names = ["grad_cam", "grad_cam@0.0", "gradient", "occlusion"]
    panel = fukusen.explain(model, torch.rand(1, 3, 16, 16), methods=names, scores=["logit"])
    for name in names:
        assert resolution_of(methods.build(name), model) == tuple(panel[name, "logit"].shape[1:])
    assert len(layers_of([methods.build(name) for name in names], model)) == 2


def test_bad_names_are_refused(model: Classifier) -> None:
    """With one sentence each."""
    images = torch.rand(1, 3, 16, 16)
    with pytest.raises(UnknownName, match=r"^There is no layer named '0\.9'"):
        fukusen.explain(model, images, methods=["grad_cam@0.9"])
    with pytest.raises(CallError, match=r"^The layer '2' gives no output with rows and columns\. Layers that do: 0\.3"):
        fukusen.explain(model, images, methods=["grad_cam"], layers=["2"])
    with pytest.raises(CallError) as none:
        methods.build("gradient@0.0")
    assert str(none.value) == "The method 'gradient' reads no layer that could be chosen. Leave @0.0 out."
    with pytest.raises(CallError) as empty:
        methods.build("grad_cam@")
    assert str(empty.value) == "The method 'grad_cam@' names no layer. Say one behind the @, or leave the @ out."
