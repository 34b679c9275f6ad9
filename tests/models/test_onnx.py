"""Networks from ONNX files that the tests export or write: the same numbers, layers and maps as the network's own."""

from __future__ import annotations

import json
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx import save as save_onnx
from torch import Tensor, nn

import fukusen
from fukusen.errors import CallError, ModelError
from fukusen.models import load
from fukusen.models.onnx import layers


class Residual(nn.Module):
    """Two convolutions, beside which the input goes on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.act = nn.SiLU()

    def forward(self, values: Tensor) -> Tensor:
        return values + self.act(self.second(torch.relu(self.norm(self.first(values)))))


def _net(classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.Hardswish(),
        Residual(8),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(8, 12, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, classes),
    )
    with torch.no_grad():
        net[7].weight.mul_(5)
        net[2].norm.running_mean.normal_()
        net[2].norm.running_var.uniform_(0.5, 2)
    return net.eval()


def _exported(net: nn.Module, path: Path, *, batch: int | None = None, **options: Any) -> Path:
    axes = {"image": {0: "batch"}} if batch is None else None
    images = torch.randn(batch or 2, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (images,), path, input_names=["image"], dynamic_axes=axes, dynamo=False, **options)
    return path


def _same_as(net: nn.Module, path: Path) -> None:
    model, images = load(str(path), head="softmax"), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_outputs(tmp_path: Path, opset: int) -> None:
    _same_as(_net(), _exported(_net(), tmp_path / "a.onnx", opset_version=opset))


def test_a_vision_transformer(tmp_path: Path) -> None:
    import timm

    net = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3).eval()
    _same_as(net, _exported(net, tmp_path / "a.onnx"))
    _same_as(net, _exported(net, tmp_path / "b.onnx", batch=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_mambaout"])
def test_timm_networks_by_the_newer_exporter(tmp_path: Path, name: str) -> None:
    import timm

    net = timm.create_model(name, num_classes=3).eval()
    size = net.default_cfg["input_size"][-1]
    path, axes = tmp_path / "a.onnx", ({0: torch.export.Dim.DYNAMIC},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(2, 3, size, size),), path, dynamo=True, dynamic_shapes=axes, verbose=False)
    model, images = load(str(path), head="softmax"), torch.randn(3, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(images), net(images), rtol=1e-4, atol=1e-4)


def test_layers_have_the_names_in_the_file_and_the_maps_of_the_network(tmp_path: Path) -> None:
    net = _net()
    model = load(str(_exported(net, tmp_path / "a.onnx")), head="softmax")
    own = fukusen.wrap(net, input_size=(3, 32, 32), head="softmax")
    assert (str(model.layer), str(own.layer)) == ("/4/Conv", "4")
    assert isinstance(model.net.get_submodule("/2/second/Conv"), nn.Conv2d)
    images = torch.randn(2, 3, 32, 32)
    asked = {"methods": ["grad_cam", "gradient", "integrated_gradients"], "scores": ["logit", "log_odds"]}
    meant, made = (fukusen.explain(one, images, **asked) for one in (own, model))  # type: ignore[arg-type]
    for key in made.made:
        torch.testing.assert_close(made[key], meant[key], rtol=1e-3, atol=1e-5)


def test_names_with_full_stops_name_layers(tmp_path: Path) -> None:
    path = _exported(_net(), tmp_path / "a.onnx")
    import onnx

    program = onnx.load(path)
    convolutions = [node for node in program.graph.node if node.op_type == "Conv"]
    for node, name in zip(convolutions, ["a.b", "a", "a.b.c", "forward"], strict=True):
        node.name = name
    save_onnx(program, path)
    model = load(str(path), head="softmax", layer="a.b")
    assert str(model.layer) == "a.b"
    assert {"a", "a_1", "forward_1"} <= dict(model.net.named_children()).keys()
    _same_as(_net(), path)


def test_the_double_copy_and_two_threads(tmp_path: Path) -> None:
    net = _net()
    model = load(str(_exported(net, tmp_path / "a.onnx")), head="softmax")
    images = torch.randn(4, 3, 32, 32)
    exact = model.in_double().logits(images.double())
    torch.testing.assert_close(exact, net.double()(images.double()).detach(), rtol=1e-5, atol=1e-6)
    alone, found = model.logits(images), []
    threads = [threading.Thread(target=lambda: found.append(model.logits(images))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, alone) for one in found)
    assert len(found) == 2


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    model = load(str(_exported(_net(), tmp_path / "a.onnx")), head="softmax")
    assert model.input_shape == (3, 32, 32)
    (note,) = model.notes
    assert note == (
        "An ONNX file does not say how pictures become its input; 32 pixels and mean and deviation of ImageNet were "
        "assumed. Where that is wrong: fukusen.wrap(model.net, preprocess=...), in a module.py:factory on the command "
        "line."
    )


@pytest.mark.parametrize(
    ("head", "kind"),
    [(nn.Softmax(1), "probabilities"), (nn.LogSoftmax(1), "log_probabilities"), (nn.Identity(), "softmax")],
)
def test_the_head_is_found(tmp_path: Path, head: nn.Module, kind: str) -> None:
    path = _exported(nn.Sequential(*_net(), head).eval(), tmp_path / "a.onnx")
    assert load(str(path)).head.kind == kind


@pytest.mark.parametrize(
    "text",
    [
        '["owl", "fox", "ape", "bee"]',
        '{"1": "fox", "0": "owl", "2": "ape", "3": "bee"}',
        "{0: 'owl', 1: 'fox', 2: 'ape', 3: 'bee'}",
        "owl,fox, ape,bee",
        "owl\nfox\nape\nbee\n",
    ],
)
def test_class_names_in_the_metadata(tmp_path: Path, text: str) -> None:
    import onnx

    path = _exported(_net(), tmp_path / "a.onnx")
    program = onnx.load(path)
    helper.set_model_props(program, {"names": text})
    save_onnx(program, path)
    assert load(str(path), head="softmax").classes == ("owl", "fox", "ape", "bee")
    helper.set_model_props(program, {"names": json.dumps(["one", "two"])})
    save_onnx(program, path)
    assert load(str(path), head="softmax").classes[0] == "class 0"


def test_the_digest_names_the_graph_as_well_as_the_weights(tmp_path: Path) -> None:
    paths = []
    for name, act in (("a", nn.ReLU()), ("b", nn.ReLU()), ("c", nn.Sigmoid())):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        paths.append(_exported(net.eval(), tmp_path / f"{name}.onnx"))
    one, other, third = (load(str(path), head="softmax").digest for path in paths)
    assert one == other
    assert one != third


def _written(path: Path, nodes: Sequence[Any], weights: dict[str, NDArray[Any]], **changes: Any) -> Any:
    """An ONNX file with one input, by default (any, 3, 8, 8), and one output."""
    shape, opset = changes.get("shape", ["n", 3, 8, 8]), changes.get("opset", 17)
    kind = changes.get("kind", TensorProto.FLOAT)
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    given = helper.make_tensor_value_info("rows", kind, None)
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("image", kind, shape)], [given], initializers
    )
    program = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    save_onnx(program, path)
    return program


def _weights() -> dict[str, NDArray[Any]]:
    chance = np.random.default_rng(0)
    return {
        "w": chance.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "v": chance.normal(size=(4, 2)).astype(np.float32),
    }


TAIL = [
    helper.make_node("GlobalAveragePool", ["c"], ["p"]),
    helper.make_node("Flatten", ["p"], ["f"]),
    helper.make_node("MatMul", ["f", "v"], ["rows"]),
]


@pytest.mark.parametrize(
    "attributes",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"pads": [0, 1, 2, 0]},
    ],
)
def test_uneven_borders(tmp_path: Path, attributes: dict[str, Any]) -> None:
    """The comparison with onnxruntime, at every loading, is the oracle."""
    _written(tmp_path / "a.onnx", [helper.make_node("Conv", ["image", "w"], ["c"], **attributes), *TAIL], _weights())
    assert load(str(tmp_path / "a.onnx"), head="softmax").input_shape == (3, 8, 8)


def test_casts(tmp_path: Path) -> None:
    kinds = (TensorProto.DOUBLE, TensorProto.INT32, TensorProto.FLOAT)
    steps = [helper.make_node("Mul", ["image", "five"], ["0"])]
    steps += [helper.make_node("Cast", [f"{place}"], [f"{place + 1}"], to=kind) for place, kind in enumerate(kinds)]
    weights = _weights() | {"five": np.array(5, np.float32)}
    _written(tmp_path / "a.onnx", [*steps, helper.make_node("Conv", ["3", "w"], ["c"]), *TAIL], weights)
    model = load(str(tmp_path / "a.onnx"), head="softmax")
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(model.logits(images), model.logits((images * 5).trunc() / 5 + 0.01))


def test_channels_last(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["image"], ["i"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["i", "w"], ["c"]),
    ]
    _written(tmp_path / "a.onnx", [*nodes, *TAIL], _weights(), shape=["n", 8, 8, 3])
    _written(tmp_path / "b.onnx", [helper.make_node("Conv", ["image", "w"], ["c"]), *TAIL], _weights())
    last, first = (load(str(tmp_path / name), head="softmax") for name in ("a.onnx", "b.onnx"))
    assert last.input_shape == (3, 8, 8)
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(last.logits(images), first.logits(images))


def test_grey_and_oblong_images(tmp_path: Path) -> None:
    weights = _weights() | {"w": np.ones((4, 1, 3, 3), np.float32)}
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"]), *TAIL]
    _written(tmp_path / "a.onnx", nodes, weights, shape=["n", 1, 8, 8])
    assert load(str(tmp_path / "a.onnx"), head="softmax").input_shape == (1, 8, 8)
    _written(
        tmp_path / "b.onnx", [helper.make_node("Conv", ["image", "w"], ["c"]), *TAIL], _weights(), shape=["n", 3, 8, 12]
    )
    oblong = load(str(tmp_path / "b.onnx"), head="softmax")
    assert (oblong.input_shape, oblong.preprocess) == ((3, 8, 12), None)


def test_numbers_of_half_precision(tmp_path: Path) -> None:
    weights = {name: value.astype(np.float16) for name, value in _weights().items()}
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"]), *TAIL]
    _written(tmp_path / "a.onnx", nodes, weights, kind=TensorProto.FLOAT16)
    assert load(str(tmp_path / "a.onnx"), head="softmax").dtype == torch.float32


def _told(path: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(str(path), **options)
    return str(caught.value)


def test_an_operation_that_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"]), *TAIL[:2], helper.make_node("Det", ["f"], ["rows"])]
    _written(path, nodes, _weights())
    assert _told(path) == (
        f"The ONNX file {str(path)!r} cannot be converted. It uses operations that are not known here: Det. Write a "
        "file model.py with a function that returns the network, and name it as model.py:function."
    )


def test_a_conversion_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _exported(_net(), tmp_path / "a.onnx")
    load(str(path), head="softmax")
    wrong = {**layers.OPERATIONS, "Mul": lambda _node, left, right: left * right * 1.001}
    monkeypatch.setattr(layers, "OPERATIONS", wrong)
    assert "converted to torch does not compute what onnxruntime does: the outputs for noise pictures differ" in _told(
        path
    )


def test_batches_of_a_fixed_length(tmp_path: Path) -> None:
    _same_as(_net(), _exported(_net(), tmp_path / "one.onnx", batch=1))
    path = _exported(_net(), tmp_path / "two.onnx", batch=2)
    assert _told(path) == (
        f"The ONNX file {str(path)!r} was exported for batches of exactly 2. Export it with a batch axis of any length "
        "(dynamic_shapes or dynamic_axes of torch.onnx.export)."
    )


def _beside(tmp_path: Path, place: str) -> Path:
    """A file whose first weights lie in another."""
    path = tmp_path / "model" / "a.onnx"
    path.parent.mkdir()
    program = _written(path, [helper.make_node("Conv", ["image", "w"], ["c"]), *TAIL], _weights())
    tensor = next(one for one in program.graph.initializer if one.name == "w")
    (path.parent / place).write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    path.write_bytes(program.SerializeToString())
    return path


def test_weights_in_the_files_own_folder_are_read(tmp_path: Path) -> None:
    path = _beside(tmp_path, "a.data")
    _written(tmp_path / "b.onnx", [helper.make_node("Conv", ["image", "w"], ["c"]), *TAIL], _weights())
    images = torch.randn(2, 3, 8, 8)
    apart, whole = (load(str(one), head="softmax").logits(images) for one in (path, tmp_path / "b.onnx"))
    assert torch.equal(apart, whole)


@pytest.mark.parametrize("absolute", [False, True])
def test_weights_outside_the_files_folder_are_not_read(tmp_path: Path, absolute: bool) -> None:
    place = str(tmp_path / "secret") if absolute else "../secret"
    path = _beside(tmp_path, place)
    assert _told(path) == (
        f"The ONNX file {str(path)!r} keeps weights in {place!r}, outside its own folder, so they were not read. Put "
        "them beside it and export it again."
    )


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    path = _beside(tmp_path, "link")
    (path.parent / "link").rename(tmp_path / "secret")
    (path.parent / "link").symlink_to(tmp_path / "secret")
    assert "keeps weights in 'link', outside its own folder" in _told(path)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    assert _told(path) == f"There is no file {str(path)!r} to load a model from."
    path.write_bytes(b"\x08\x07nothing")
    assert _told(path).startswith(f"The file {str(path)!r} is not valid ONNX: ")
    whole = _exported(_net(), tmp_path / "b.onnx").read_bytes()
    for end in range(0, len(whole), len(whole) // 12):
        path.write_bytes(whole[:end])
        assert str(path) in _told(path)
    _written(path, TAIL[1:], {"v": np.ones((192, 2), np.float32)}, shape=["n", 192])
    assert _told(path) == (
        f"The ONNX file {str(path)!r} must take one batch of images: floating numbers with four axes. It takes: image, "
        "FLOAT with 2 axes."
    )


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _exported(_net(), tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert _told(path) == "onnxruntime is not installed. Install it with: pip install 'fukusen[onnx]'"


def test_it_has_its_own_weights(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="This model has its own weights"):
        load(str(_exported(_net(), tmp_path / "a.onnx")), weights="a.safetensors")
