"""Devices without numbers of 64 bits: a network there is left alone, and a copy on the CPU is explained."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from fukusen.models import wrap
from fukusen.models.wrapping import has_double

# A device made of Python: its tensors are computed on the CPU, but it takes no float64 and no tensor of another device.
FAR = """
import warnings
warnings.simplefilter("ignore")
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("far")

class Far(torch.Tensor):
    @staticmethod
    def __new__(cls, inner):
        if inner.dtype == torch.float64:
            raise TypeError("the far device has no float64")
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device="far")

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with Reach():
            return func(*args, **(kwargs or {}))

class Reach(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        named = dict(kwargs or {})
        given = [one for one in tree_leaves((args, named)) if isinstance(one, torch.Tensor)]
        far = [one for one in given if isinstance(one, Far)]
        device = named.get("device")
        goes_far = bool(far) if device is None else torch.device(device).type == "far"
        if far and any(one.dim() for one in given if not isinstance(one, Far)) and func._schema.name != "aten::copy_":
            raise RuntimeError(f"{func} was given tensors of two devices")
        if device is not None:
            named["device"] = "cpu"
        args, named = tree_map(lambda one: one.inner if isinstance(one, Far) else one, (args, named))
        made = func(*args, **named)
        back = {id(one.inner): one for one in far}
        return tree_map(
            lambda one: (back.get(id(one)) or Far(one)) if goes_far and isinstance(one, torch.Tensor) else one, made
        )

import fukusen
from fukusen.models.wrapping import has_double

torch.manual_seed(0)
layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
net = nn.Sequential(*layers).eval()
images = torch.randn(2, 3, 12, 12)
expected = fukusen.explain(fukusen.wrap(net, input_size=(3, 12, 12)), images)
with Reach():
    assert not has_double(torch.device("far"))
    for module in net.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[name] = nn.Parameter(value.detach().to("far"))
        for name, value in list(module._buffers.items()):
            module._buffers[name] = value.to("far")
    before = [(id(one), one.device.type) for one in (*net.parameters(), *net.buffers())]
    model = fukusen.wrap(net, input_size=(3, 12, 12))
    assert [(id(one), one.device.type) for one in (*net.parameters(), *net.buffers())] == before
    assert {kind for _, kind in before} == {"far"}
found = fukusen.explain(model, images)
assert all(torch.equal(found[key], expected[key]) for key in expected.rows)
print(model.device, model.notes[0])
"""


def test_which_devices_have_doubles() -> None:
    assert has_double(torch.device("cpu"))
    assert has_double(torch.device("meta"))


def test_where_there_are_doubles_the_network_is_used_where_it_is() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    model = wrap(net, input_size=(3, 8, 8), head="softmax")
    assert model.net is net
    assert model.notes == ()


@pytest.mark.slow
def test_a_device_without_doubles() -> None:
    """The network there is left alone, its copy gives the same maps, and a note says so."""
    done = subprocess.run(
        [sys.executable, "-c", FAR], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "cpu The device 'far' has no numbers of 64 bits, which scores and their checks need: a copy of the network "
        "on the CPU is used."
    )
