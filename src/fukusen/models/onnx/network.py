"""An ONNX graph as a torch network: one module an operation, each under the name that the file gives it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fukusen.errors import ModelError
from fukusen.models.onnx.layers import Computed, is_known, layer_of, linear
from fukusen.models.onnx.nodes import Made, Node
from fukusen.models.onnx.reading import Program


@dataclass(frozen=True)
class Step:
    """One module, called once in a pass.

    Args:
        module: its name in the network.
        inputs: the names of the values that it is given; "" for one that is left out.
        outputs: the names of what it makes.
        done: the names of values that nothing needs from here on.
    """

    module: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...] = ()


class Network(nn.Module):
    """A network that carries out the operations of an ONNX file one after the other.

    Args:
        program: what the file says.

    Raises:
        ModelError: an operation that is not known.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        _check_known(program)
        made = _Making(program, self)
        self.taken, self.given, self.channels_last = program.taken, made.given, program.channels_last
        self.steps = made.steps()
        used = {name for step in self.steps for name in step.inputs} | {self.given}
        self.wholes: dict[str, Tensor] = {}
        self.floats: dict[str, str] = {}
        for name in sorted(used & made.constants.keys()):
            value = made.constants[name]
            if value.is_floating_point():
                self.floats[name] = f"constant_{len(self.floats)}"
                self.register_buffer(self.floats[name], value.clone())
            else:
                self.wholes[name] = value

    def forward(self, images: Tensor) -> Tensor:
        """One row of numbers an image.

        Args:
            images: shape (b, c, h, w), also where the file has the channels last.
        """
        known = {**self.wholes, **{name: self.get_buffer(held) for name, held in self.floats.items()}}
        known[self.taken] = images.permute(0, 2, 3, 1) if self.channels_last else images
        for step in self.steps:
            module = self.get_submodule(step.module)
            made: Made = module(*[known[name] if name else None for name in step.inputs])
            parts = made if isinstance(made, tuple) else (made,)
            known.update(zip(step.outputs, parts, strict=False))
            for name in step.done:
                del known[name]
        rows = known[self.given]
        return rows.flatten(1) if rows.dim() > 2 and rows.shape[2:].numel() == 1 else rows


def _check_known(program: Program) -> None:
    unknown = sorted({node.kind for node in _needed(program) if node.kind != "Constant" and not is_known(node.kind)})
    if unknown:
        raise ModelError(
            f"It uses operations that are not known here: {', '.join(unknown)}. Write a file model.py with a function "
            "that returns the network, and name it as model.py:function."
        )


def _output(program: Program) -> str:
    """The output that is taken for the logits: the one that is called so, else the first."""
    likely = [name for name in program.given if name.lower() in ("logits", "output", "scores")]
    return (likely or list(program.given))[0]


def _needed(program: Program) -> list[Node]:
    """The operations that the logits depend on, in the file's order."""
    wanted, kept = {_output(program)}, []
    for node in reversed(program.nodes):
        if wanted & set(node.outputs):
            wanted |= set(node.inputs)
            kept.append(node)
    return kept[::-1]


def _constant(node: Node) -> Tensor:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if node.get(name) is not None:
            found = node.get(name)
            return found if isinstance(found, Tensor) else torch.tensor(found)
    raise node.refuse("its value is no tensor of numbers")


class _Making:
    """The modules of a network, put under their names, and the order of their calls."""

    def __init__(self, program: Program, net: nn.Module) -> None:
        self.constants = dict(program.constants)
        self.given = _output(program)
        self._net = net
        self._made: list[Step] = []
        nodes = _needed(program)
        self._uses = Counter(name for node in nodes for name in node.inputs)
        self._nodes = _with_batches(nodes, self.constants) if program.shape[0] == 1 else nodes

    def steps(self) -> tuple[Step, ...]:
        """The calls, each with what can be forgotten after it."""
        places = iter(range(len(self._nodes)))
        for place in places:
            node = self._nodes[place]
            if node.kind == "Constant":
                self.constants[node.outputs[0]] = _constant(node)
            elif all(name in self.constants for name in node.inputs if name):
                self._fold(node)
            elif (bias := self._bias_behind(place)) is not None:
                self._put(node, linear(self.constants[node.inputs[1]].T, bias), self._nodes[place + 1].outputs)
                next(places)
            else:
                self._put(node, layer_of(node, self.constants), node.outputs)
        return self._with_ends()

    def _fold(self, node: Node) -> None:
        """What depends on nothing but constants is one."""
        module = layer_of(node, self.constants)
        taken = node.inputs if isinstance(module, Computed) else node.inputs[:1]
        made: Made = module(*[self.constants[name] if name else None for name in taken])
        parts = made if isinstance(made, tuple) else (made,)
        self.constants.update(zip(node.outputs, parts, strict=False))

    def _bias_behind(self, place: int) -> Tensor | None:
        """What the next operation adds to each output of a product with a matrix of weights, and nothing else needs."""
        node, after = self._nodes[place], self._nodes[place + 1 : place + 2]
        weight = self.constants.get(node.inputs[1]) if node.kind == "MatMul" else None
        if weight is None or weight.dim() != 2 or not after or after[0].kind != "Add":
            return None
        rest = [name for name in after[0].inputs if name != node.outputs[0]]
        alone = self._uses[node.outputs[0]] == 1 and node.outputs[0] != self.given
        bias = self.constants.get(rest[0]) if len(rest) == 1 and alone else None
        return bias if bias is not None and bias.shape == weight.shape[1:] else None

    def _put(self, node: Node, module: nn.Module, outputs: tuple[str, ...]) -> None:
        taken = node.inputs if isinstance(module, Computed) else node.inputs[:1]
        self._made.append(Step(_hung(self._net, node.name, module), taken, outputs))

    def _with_ends(self) -> tuple[Step, ...]:
        last = {name: place for place, step in enumerate(self._made) for name in (*step.inputs, *step.outputs) if name}
        forgotten: dict[int, list[str]] = {}
        for name, place in last.items():
            if name not in self.constants and name != self.given:
                forgotten.setdefault(place, []).append(name)
        return tuple(replace(step, done=tuple(forgotten.get(place, ()))) for place, step in enumerate(self._made))


def _with_batches(nodes: list[Node], constants: Mapping[str, Tensor]) -> list[Node]:
    """The operations of a file that was written for one image, with shapes that let any number through.

    Whether that was right shows when the outputs are compared.
    """
    fixed = {node.outputs[0]: _constant(node) for node in nodes if node.kind == "Constant"} | dict(constants)
    freed = []
    for node in nodes:
        shape = fixed.get(node.inputs[1]) if node.kind == "Reshape" and len(node.inputs) > 1 else None
        if shape is not None and shape.numel() > 1 and int(shape[0]) == 1 and not node.get("allowzero", 0):
            asked = [0, *shape.tolist()[1:]]
            freed.append(replace(node, inputs=node.inputs[:1], attributes={**node.attributes, "shape": asked}))
        else:
            freed.append(node)
    return freed


def _hung(net: nn.Module, name: str, module: nn.Module) -> str:
    """The name under which the module hangs in the network: the file's own, whose full stops part modules in torch."""
    *above, own = [part or "_" for part in name.split(".")]
    place, path = net, []
    for part in above:
        inner = place._modules.get(part)
        path.append(part if type(inner) is nn.Module else _free(place, part))
        # What stands there already and computes something itself takes no others in.
        if type(inner) is not nn.Module:
            inner = nn.Module()
            place.add_module(path[-1], inner)
        place = inner
    own = _free(place, own)
    place.add_module(own, module)
    return ".".join([*path, own])


def _free(place: nn.Module, name: str) -> str:
    """The name, with a number behind it where the place has something of that name."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(one for one in names if not hasattr(place, one))
