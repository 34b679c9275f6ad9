"""What every registered method keeps to, on networks of several kinds; a new one is found by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fukusen.arrays import Batch, Images, Maps
from fukusen.methods import Method, leak_share, methods
from fukusen.models import Classifier, Layer, wrap
from fukusen.records import Spec, Undefined
from fukusen.scores import scores, shift_leak
from fukusen.tape import Tape

CHEAP = {
    "integrated_gradients": Spec.of("integrated_gradients", steps=2),
    "smooth_grad": Spec.of("smooth_grad", samples=2),
    "occlusion": Spec.of("occlusion", grid=2),
    "sliding_occlusion": Spec.of("sliding_occlusion", size=32, stride=32),
    "rise": Spec.of("rise", masks=4),
    "lime": Spec.of("lime", samples=8, segments=4),
    "kernel_shap": Spec.of("kernel_shap", samples=8, segments=4),
    "score_cam": Spec.of("score_cam", channels=3),
    "ablation_cam": Spec.of("ablation_cam", channels=5),
    "rsi_grad_cam": Spec.of("rsi_grad_cam", steps=2),
}
METHODS: dict[str, Method] = {name: methods.build(CHEAP.get(name, name)) for name in methods.names()}
SCORES = {name: scores.build(name) for name in scores.names()}
SINGLE = tuple(name for name, method in METHODS.items() if method.single_pass)
TRANSFORMERS = ("vit_tiny", "swin_tiny")
ATTENTIVE = tuple(name for name, method in METHODS.items() if method.family == "attention")


class _Shifted(nn.Module):
    """A network with a number of the image's own added to every logit: a part read off the pixels and a part inside."""

    def __init__(self, net: nn.Module, layer: Layer) -> None:
        super().__init__()
        self.net, self.layer = net, layer

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = self.net.get_submodule(self.layer.name).register_forward_hook(
            lambda _module, _in, out: kept.append(out.clone())
        )
        try:
            logits: Tensor = self.net(x)
        finally:
            handle.remove()
        # Of some channels: what all add up to is the same in every cell behind a layer norm.
        corner = self.layer.channels_first(kept[0])[:, ::2, 0, 0].relu().mean(dim=1, keepdim=True)
        # Large: Score-CAM's softmax leaves little of it where all channels are alike, as in an untrained VGG.
        return logits + 40 * x[:, :, ::3].relu().mean(dim=(1, 2, 3))[:, None] + 100 * corner


@dataclass
class _Subject:
    """A classifier, two images, and what the methods made of them so far: each pass is run once for all tests."""

    model: Classifier
    images: Images
    tapes: dict[str, Tape] = field(default_factory=dict)
    made: dict[tuple[str, str], dict[str, Maps]] = field(default_factory=dict)

    def tape(self, run: str) -> Tape:
        """``whole``, ``again``, ``first`` or ``second`` alone, or ``shifted``, all for the same targets."""
        if run not in self.tapes:
            chosen = {"first": slice(0, 1), "second": slice(1, 2)}.get(run, slice(0, 2))
            # None is the first class, which the contrast with a given class is with unless told.
            targets = torch.tensor([1, min(2, len(self.model.classes) - 1)])[chosen]
            model = self._shifted() if run == "shifted" else self.model
            self.tapes[run] = Tape(model, Batch(("a", "b")[chosen], self.images[chosen], targets))
        return self.tapes[run]

    def _shifted(self) -> Classifier:
        layer = self.model.layer
        assert layer is not None
        net = _Shifted(self.model.net, layer)
        return wrap(net, input_size=self.model.input_shape, layer=f"net.{layer}", head="softmax")

    def maps(self, method: str, score: str, run: str = "whole") -> Maps:
        """One method's maps of one score in one run."""
        if (method, run) not in self.made:
            found = METHODS[method].maps(self.tape(run), list(SCORES.values()))
            assert len(found) == len(SCORES)
            for one in found:
                assert not isinstance(one, Undefined), one
            self.made[method, run] = dict(zip(SCORES, [one for one in found if isinstance(one, Tensor)], strict=True))
        return self.made[method, run][score]


def _small(channels: int, outputs: int) -> nn.Module:
    torch.manual_seed(21)
    front = [nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    middle = [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Tanh()]
    net = nn.Sequential(*front, *middle, nn.Flatten(), nn.Linear(6 * 6 * 6, outputs)).eval()
    nn.init.uniform_(net[1].running_var, 0.5, 1.5)
    return net


def _noise(channels: int, side: int) -> Images:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(22))


def _deep(net: nn.Module, side: int) -> _Subject:
    """In double precision: in single, a ReLU whose input is all but zero may switch with the size of the batch."""
    return _Subject(wrap(net.eval().double(), input_size=(3, side, side), head="softmax"), _noise(3, side))


def _resnet18() -> _Subject:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(23)
    return _deep(torchvision.models.resnet18(weights=None), 64)


def _vgg11() -> _Subject:
    """All of its convolutions; the head has the same layers, narrower, for its hundred million weights test nothing."""
    vgg = pytest.importorskip("torchvision.models.vgg")
    torch.manual_seed(24)
    features = vgg.make_layers(vgg.cfgs["A"])
    head = [nn.Linear(512, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(True), nn.Dropout()]
    return _deep(nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head, nn.Linear(32, 10)), 64)


def _vit_tiny() -> _Subject:
    timm = pytest.importorskip("timm")
    torch.manual_seed(25)
    return _deep(timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10), 64)


def _swin_tiny() -> _Subject:
    """Windows of 4 x 4 that are shifted in every other block, and a merging of patches."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(26)
    sizes = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "patch_size": 4}
    return _deep(timm.create_model("swin_tiny_patch4_window7_224", img_size=64, num_classes=10, **sizes), 64)


def _convnext_atto() -> _Subject:
    timm = pytest.importorskip("timm")
    torch.manual_seed(27)
    return _deep(timm.create_model("convnext_atto", num_classes=10), 64)


MAKERS: dict[str, Callable[[], _Subject]] = {
    "digits": lambda: _Subject(wrap(_small(1, 2), input_size=(1, 16, 16), head="softmax"), _noise(1, 16)),
    "labels": lambda: _Subject(wrap(_small(3, 4), input_size=(3, 16, 16), head="sigmoid"), _noise(3, 16)),
    "resnet18": _resnet18,
    "vgg11": _vgg11,
    "vit_tiny": _vit_tiny,
    "swin_tiny": _swin_tiny,
    "convnext_atto": _convnext_atto,
}
SOFTMAX = ("digits", *(name for name in MAKERS if name not in ("digits", "labels")), "lite0", "lite0_double")
# One pair of each of these is in the fast suite, and every pair in the slow one.
FAST = {"digits": tuple(METHODS), "labels": tuple(METHODS), "lite0": SINGLE, "vit_tiny": ("grad_cam", *ATTENTIVE)}
NO_ATTENTION = "the network has no attention whose weights can be read"
NO_RELU = "the network has no ReLU, so there is nothing to guide"
_ATTENTION = {which: NO_ATTENTION for which in ("labels", *SOFTMAX) if which not in TRANSFORMERS}
_ATTENTION["swin_tiny"] = "its attention looks through windows or at several scales"
_SMOOTH = (*TRANSFORMERS, "convnext_atto")
# Where a method has no map, with what its reason must say: nothing else may be undefined.
UNDEFINED: dict[str, dict[str, str]] = {
    **dict.fromkeys(ATTENTIVE, _ATTENTION),
    "full_grad": dict.fromkeys(_SMOOTH, "adds something that is not laid out in rows and columns"),
    "guided_backprop": dict.fromkeys(_SMOOTH, NO_RELU),
    "guided_grad_cam": dict.fromkeys(_SMOOTH, NO_RELU),
    "lrp": dict.fromkeys(TRANSFORMERS, "LRP has no rule for"),
}

# With random weights no cell of these Grad-CAM maps is positive, and the paper's product with nothing is nothing.
EMPTY: dict[str, tuple[str, ...]] = {"guided_grad_cam": ("resnet18", "vgg11")}


@pytest.fixture(scope="module")
def subjects(lite0: Classifier, imagenet_paths: tuple[Path, ...]) -> Callable[[str], _Subject]:
    """The subject of a name, made when it is first asked for."""
    made: dict[str, _Subject] = {}

    def subject(which: str) -> _Subject:
        if which not in made and which.startswith("lite0"):
            assert lite0.preprocess is not None
            pictures = [lite0.preprocess(Image.open(path).convert("RGB")) for path in imagenet_paths[:2]]
            made[which] = _Subject(lite0.in_double() if which == "lite0_double" else lite0, torch.stack(pictures))
        elif which not in made:
            made[which] = MAKERS[which]()
        return made[which]

    return subject


def _pairs(*networks: str, defined: bool = True) -> list[Any]:
    """Every network with every method that has a map there, or has none; what takes long is for the slow suite.

    The demo network is in double precision where it takes more than a few passes: LRP of zero-sum scores loses three
    digits to cancelling.
    """
    found = []
    for which in networks:
        for method in METHODS:
            if which.startswith("lite0") and (method in SINGLE) != (which == "lite0"):
                continue
            if which in EMPTY.get(method, ()):
                continue
            if (which not in UNDEFINED.get(method, {})) == defined:
                marks = [] if method in FAST.get(which, ("grad_cam",)) else [pytest.mark.slow]
                found.append(pytest.param(which, method, marks=marks, id=f"{which}-{method}"))
    return found


each_pair = pytest.mark.parametrize(("which", "method"), _pairs("labels", *SOFTMAX))
each_softmax_pair = pytest.mark.parametrize(("which", "method"), _pairs(*SOFTMAX))
each_undefined_pair = pytest.mark.parametrize(("which", "method"), _pairs("labels", *SOFTMAX, defined=False))
each_score = pytest.mark.parametrize("score", SCORES)


def _off(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of each image's largest cell."""
    return float(((found - expected).abs().amax(dim=(1, 2)) / expected.abs().amax(dim=(1, 2))).max())


@each_score
@each_pair
def test_maps_are_finite_and_of_one_shape(
    subjects: Callable[[str], _Subject], which: str, method: str, score: str
) -> None:
    """One signed map an image in the network's own precision, the same shape for every score, not all zero."""
    subject = subjects(which)
    maps = subject.maps(method, score)
    assert maps.shape == subject.maps(method, "logit").shape
    assert maps.dim() == 3
    assert len(maps) == 2
    assert maps.dtype == subject.model.dtype
    assert not maps.requires_grad
    assert bool(maps.isfinite().all())
    assert bool((maps.flatten(1) != 0).any(dim=1).all())


@each_score
@each_pair
def test_maps_are_at_native_resolution(
    subjects: Callable[[str], _Subject], which: str, method: str, score: str
) -> None:
    """The layer's for class activation maps and attention, the grid's for perturbations, the image's for the others."""
    subject = subjects(which)
    assert subject.model.layer is not None
    at_layer = subject.model.layer.shape[1:]
    sides = {"cam": at_layer, "attention": at_layer}
    grid = getattr(METHODS[method], "grid", None)
    expected = (grid, grid) if grid else sides.get(METHODS[method].family, subject.model.input_shape[1:])
    assert tuple(subject.maps(method, score).shape[1:]) == tuple(expected)


@each_score
@each_pair
def test_maps_are_deterministic(subjects: Callable[[str], _Subject], which: str, method: str, score: str) -> None:
    """A second pass gives the same bits."""
    subject = subjects(which)
    assert torch.equal(subject.maps(method, score), subject.maps(method, score, "again"))


@each_score
@each_pair
def test_a_batch_is_its_images(subjects: Callable[[str], _Subject], which: str, method: str, score: str) -> None:
    """An image's map does not depend on what else is in the batch."""
    subject = subjects(which)
    alone = torch.cat([subject.maps(method, score, "first"), subject.maps(method, score, "second")])
    assert _off(subject.maps(method, score), alone) < 1e-4


@each_score
@each_softmax_pair
def test_a_shift_of_all_logits_is_not_seen(
    subjects: Callable[[str], _Subject], which: str, method: str, score: str
) -> None:
    """Where no leak of the score enters the map; where one does, the same shift is seen, so that the test can fail."""
    subject = subjects(which)
    tape = subject.tape("shifted")
    leak = shift_leak(SCORES[score], tape.logits, tape.targets).abs().max().item() * leak_share(METHODS[method])
    off = _off(subject.maps(method, score, "shifted"), subject.maps(method, score))
    assert off < 1e-3 if leak == 0 else off > 1e-2


@each_undefined_pair
def test_what_cannot_be_right_is_undefined(subjects: Callable[[str], _Subject], which: str, method: str) -> None:
    """The same reason for every score."""
    found = METHODS[method].maps(subjects(which).tape("whole"), list(SCORES.values()))
    assert found == [found[0]] * len(SCORES)
    assert isinstance(found[0], Undefined)
    assert UNDEFINED[method][which] in found[0].reason


@pytest.mark.parametrize(
    "which", ["digits", "labels", *(pytest.param(which, marks=pytest.mark.slow) for which in TRANSFORMERS)]
)
def test_the_model_is_left_as_it_was_found(which: str) -> None:
    """After every method has run: training flags, weights, statistics, gradients and hooks."""

    def state(net: nn.Module) -> list[object]:
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        hooks = [len(getattr(module, kind)) for module in net.modules() for kind in kinds]
        flags = [module.training for module in net.modules()]
        grads = [(value.grad, value.requires_grad, value._version) for value in net.parameters()]
        return [hooks, flags, grads, [value.tolist() for value in net.state_dict().values()]]

    subject = MAKERS[which]()
    subject.model.net.train()
    before = state(subject.model.net)
    for method in METHODS.values():
        method.maps(subject.tape("whole"), [SCORES["logit"]])
    assert state(subject.model.net) == before


@pytest.mark.parametrize("method", METHODS)
def test_no_scores_no_maps(method: str) -> None:
    """Asked for nothing, a method gives nothing."""
    subject = MAKERS["digits"]()
    assert METHODS[method].maps(subject.tape("whole"), []) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_a_spatial_layer(method: str) -> None:
    """Class activation maps and attention say why there is none; everything else works."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    model = wrap(net, input_size=(1, 8, 8), head="softmax")
    found = METHODS[method].maps(Tape(model, Batch(("a", "b"), _noise(1, 8))), list(SCORES.values()))
    assert len(found) == len(SCORES)
    reasons = {"cam": "the network has no layer with rows and columns", "attention": NO_ATTENTION}
    reason = {"guided_backprop": NO_RELU, "guided_grad_cam": NO_RELU}.get(method, reasons.get(METHODS[method].family))
    for maps in found:
        if reason is not None:
            assert maps == Undefined(reason)
        else:
            assert isinstance(maps, Tensor)
            assert bool(maps.isfinite().all())
