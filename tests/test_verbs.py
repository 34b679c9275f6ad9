"""The verbs of the library: pictures of any form in, maps, verdicts and twins out, and the model left as it was."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fukusen
from fukusen.auditing.plan import STANDARD_METHODS, STANDARD_SCORES
from fukusen.errors import CallError, DataError, ModelError, UnknownName
from fukusen.models import Classifier
from fukusen.models.preprocessing import CenterCrop
from fukusen.records import Spec

FACTORY = """
import torch
from torch import nn
import fukusen
from fukusen.models.preprocessing import CenterCrop

def build():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return fukusen.wrap(nn.Sequential(*layers).eval(), CenterCrop(24), head="softmax")
"""
METHODS = ["grad_cam", "gradient"]
SCORES = ["logit", "log_odds"]
DEVICE = "The 'device' parameter of wrap must be a device that torch can use here, such as 'cpu'. Got 'meta' instead."
BATCH = "a tensor of shape (b, c, h, w) with at least one image"
IMAGES = "The 'images' parameter of explain"
TARGETS = "The 'targets' parameter of explain must be 3 class indices, one an image."


@pytest.fixture
def spec(tmp_path: Path) -> str:
    """The name of a small network of four classes."""
    (tmp_path / "model.py").write_text(FACTORY)
    return f"{tmp_path / 'model.py'}:build"


@pytest.fixture
def model(spec: str) -> Classifier:
    """The small network."""
    return fukusen.load(spec)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three pictures in a folder."""
    (tmp_path / "in").mkdir()
    chance = np.random.default_rng(0)
    made = [tmp_path / "in" / f"{number}.png" for number in range(3)]
    for path in made:
        Image.fromarray(chance.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((40, 30)).save(path)
    return made


def _maps(model: Classifier, images: Any, **more: Any) -> dict[tuple[str, str], Tensor]:
    panel = fukusen.explain(model, images, **{"methods": METHODS, "scores": SCORES, **more})
    return {key: panel[key] for key in panel}


def _assert_same(one: dict[tuple[str, str], Tensor], other: dict[tuple[str, str], Tensor]) -> None:
    assert list(one) == list(other)
    for key, maps in one.items():
        torch.testing.assert_close(maps, other[key], rtol=1e-4, atol=1e-6)


def _inside(model: Classifier) -> tuple[Any, ...]:
    """All of a network that a call could change."""
    state = {name: value.clone() for name, value in model.net.state_dict().items()}
    gradients = [value.grad for value in model.net.parameters()]
    parts = list(model.net.modules())
    hooks = [len(one._forward_hooks) + len(one._forward_pre_hooks) + len(one._backward_hooks) for one in parts]
    return state, gradients, hooks, [one.training for one in parts]


def test_pictures_of_any_form_give_the_same_maps(model: Classifier, paths: list[Path]) -> None:
    """Paths, strings, opened pictures and preprocessed tensors."""
    opened = [Image.open(path).convert("RGB") for path in paths]
    assert model.preprocess is not None
    stacked = torch.stack([model.preprocess(picture) for picture in opened])
    expected = _maps(model, paths)
    for images in ([str(path) for path in paths], opened, [paths[0], str(paths[1]), opened[2]], stacked):
        _assert_same(_maps(model, images), expected)


def test_one_picture_needs_no_list(model: Classifier, paths: list[Path]) -> None:
    """And each picture has a name: its path, or its number."""
    expected = _maps(model, paths[:1])
    opened = Image.open(paths[0]).convert("RGB")
    for image, name in ((paths[0], str(paths[0])), (str(paths[0]), str(paths[0])), (opened, "image 0")):
        panel = fukusen.explain(model, image, methods=METHODS, scores=SCORES)
        assert panel.items == (name,)
        _assert_same({key: panel[key] for key in panel}, expected)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], f"{IMAGES} must be at least one image. Got 0 instead."),
        (torch.zeros(3, 24, 24), f"{IMAGES} must be {BATCH}. Got (3, 24, 24) instead."),
        (torch.zeros(0, 3, 24, 24), f"{IMAGES} must be {BATCH}. Got (0, 3, 24, 24) instead."),
        (torch.full((2, 3, 24, 24), torch.nan), "image 0: its preprocessed pixels are NaN or infinite."),
        ("nowhere.png", "nowhere.png: there is no such file."),
        ([Image.new("RGB", (40, 4))], "image 0: it is 40 x 4 pixels; at least 8 a side are needed."),
    ],
    ids=["none", "no batch", "empty", "not finite", "missing", "tiny"],
)
def test_images_that_cannot_be_used_are_said(model: Classifier, images: Any, said: str) -> None:
    """Which one, and why."""
    with pytest.raises(CallError if "parameter" in said else DataError) as caught:
        fukusen.explain(model, images, methods=METHODS)
    assert str(caught.value) == said


def test_the_predicted_class_is_explained_unless_said(model: Classifier, paths: list[Path]) -> None:
    """Another one for all pictures, or one for each, as a list or a tensor."""
    panel = fukusen.explain(model, paths, methods=METHODS, scores=SCORES)
    assert torch.equal(panel.targets, panel.logits.argmax(dim=1))
    _assert_same(_maps(model, paths, targets=panel.targets), _maps(model, paths))
    for asked, expected in ((2, [2, 2, 2]), ([0, 1, 2], [0, 1, 2]), (torch.tensor([3, 0, 3]), [3, 0, 3])):
        assert fukusen.explain(model, paths, asked, METHODS, SCORES).targets.tolist() == expected
    apart = [_maps(model, paths, targets=target)["grad_cam", "logit"] for target in (0, 1)]
    assert not torch.allclose(*apart)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ([0, 1], f"{TARGETS} Got [0, 1] instead."),
        ([], f"{TARGETS} Got [] instead."),
        ([True, False, True], f"{TARGETS} Got [True, False, True] instead."),
        (4, "targets must be 3 class indices from 0 to 3, one an image. Got [4, 4, 4] instead."),
        ([0, -1, 0], "targets must be 3 class indices from 0 to 3, one an image. Got [0, -1, 0] instead."),
    ],
)
def test_targets_that_do_not_fit_are_said(model: Classifier, paths: list[Path], targets: Any, said: str) -> None:
    """How many are needed, and which classes there are."""
    with pytest.raises(CallError) as caught:
        fukusen.explain(model, paths, targets, METHODS)
    assert str(caught.value) == said


def test_batches_change_nothing(model: Classifier, paths: list[Path]) -> None:
    """Maps, logits, targets and names are those of all pictures at once."""
    whole, parts = (
        fukusen.explain(model, paths, [0, 1, 2], [*METHODS, "occlusion"], SCORES, batch=batch) for batch in (16, 2)
    )
    assert (whole.items, whole.targets.tolist()) == (parts.items, parts.targets.tolist())
    torch.testing.assert_close(whole.logits, parts.logits)
    _assert_same({key: whole[key] for key in whole}, {key: parts[key] for key in parts})
    with pytest.raises(CallError) as caught:
        fukusen.explain(model, paths, batch=0)
    assert str(caught.value) == "The 'batch' parameter of explain must be an int >= 1. Got 0 instead."


def test_the_panel_is_the_standard_one_unless_said(model: Classifier, paths: list[Path]) -> None:
    """All its methods in all its scores; others by name, or as specs with parameters of their own."""
    panel = fukusen.explain(model, paths[:1])
    assert list(panel) == [(method, score) for method in STANDARD_METHODS for score in STANDARD_SCORES]
    coarse = fukusen.explain(model, paths[:1], methods=[Spec.of("occlusion", grid=3)], scores=[Spec("probability")])
    assert coarse["occlusion", "probability"].shape == (1, 3, 3)


@pytest.mark.parametrize("kind", ["method", "score"])
def test_an_unknown_name_suggests_the_nearest(model: Classifier, paths: list[Path], kind: str) -> None:
    """With every name that there is."""
    given, near = {"method": ("grad_kam", "grad_cam"), "score": ("log_ods", "log_odds")}[kind]
    with pytest.raises(UnknownName) as caught:
        fukusen.explain(model, paths, **{f"{kind}s": [given]})
    known = ", ".join(sorted(getattr(fukusen, f"list_{kind}s")()))
    assert str(caught.value) == f"There is no {kind} named {given!r}. Did you mean {near!r}? Known: {known}."


def test_a_model_may_be_named(spec: str, model: Classifier, paths: list[Path]) -> None:
    """And what is neither a name nor a model is refused."""
    named = fukusen.explain(spec, paths, methods=METHODS, scores=SCORES)
    _assert_same({key: named[key] for key in named}, _maps(model, paths))
    with pytest.raises(CallError, match="^The model 'demoo' cannot be loaded. Did you mean 'demo'[?] Known forms: "):
        fukusen.explain("demoo", paths)


def test_a_device_is_where_a_copy_runs(model: Classifier, paths: list[Path]) -> None:
    """With the same maps; one that there is not is refused."""
    expected = _maps(model, paths)
    for device in ("cpu", torch.device("cpu"), "cpu:0"):
        _assert_same(_maps(model, paths, device=device), expected)
    with pytest.raises(CallError) as caught:
        fukusen.explain(model, paths, device="meta")
    assert str(caught.value) == DEVICE


def test_without_preprocessing_pictures_cannot_be_given(model: Classifier, paths: list[Path], tmp_path: Path) -> None:
    """Tensors can; an audit, which reads files, is refused before anything is written."""
    bare = fukusen.wrap(model.net, input_size=(3, 24, 24), head="softmax")
    _assert_same(_maps(bare, torch.zeros(1, 3, 24, 24)), _maps(model, torch.zeros(1, 3, 24, 24)))
    with pytest.raises(CallError) as caught:
        fukusen.explain(bare, paths)
    said = "This model was wrapped without preprocessing"
    assert str(caught.value) == f"{said}: give it a preprocessed (b, c, h, w) tensor."
    with pytest.raises(CallError) as caught:
        fukusen.audit(bare, tmp_path / "in", tmp_path / "out")
    assert str(caught.value) == f"{said}, so picture files cannot be given to it."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(model: Classifier, paths: list[Path], tmp_path: Path, training: bool) -> None:
    """Weights, gradients, hooks and mode, whatever was done with it."""
    model.net.train(training)
    before = copy.deepcopy(_inside(model))
    fukusen.explain(model, paths, methods=[*METHODS, "occlusion"])
    fukusen.attack(model, "corner_shift", paths)
    fukusen.audit(model, tmp_path / "in", tmp_path / "out", methods=METHODS, scores=SCORES)
    after = _inside(model)
    assert before[1:] == after[1:]
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())


def test_threads_do_not_disturb_each_other(model: Classifier, paths: list[Path]) -> None:
    """One model, several pictures at the same time, each with the maps that it has alone."""
    jobs = [(path, target) for path in paths for target in (0, 1)]

    def run(job: tuple[Path, int]) -> dict[tuple[str, str], Tensor]:
        return _maps(model, job[0], targets=job[1])

    alone = [run(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, jobs))
    for one, other in zip(alone, together, strict=True):
        _assert_same(one, other)


def test_an_audit_is_what_audit_json_holds(spec: str, model: Classifier, paths: list[Path], tmp_path: Path) -> None:
    """Its status, findings and queue; and the command that repeats it, unless another is given."""
    told: list[tuple[int, int, str]] = []
    pictures, out = tmp_path / "in", tmp_path / "out put"
    asked: dict[str, Any] = {"methods": METHODS, "scores": SCORES, "seed": 3}
    done = fukusen.audit(model, pictures, out, **asked, batch=2, progress=lambda *words: told.append(words))
    left = json.loads((out / "audit.json").read_text())
    assert (done.folder, done.status) == (out, left["status"])
    assert (done.findings, done.queue) == (left["findings"], left["queue"]["items"])
    assert left["command"].startswith(f"fukusen audit {spec} {pictures} --out '{out}' ")
    panel = [word for name in METHODS for word in ("--method", name)] + [
        word for name in SCORES for word in ("--score", name)
    ]
    assert left["command"].endswith(f" {' '.join(panel)} --seed 3 --batch 2")
    assert [(done, total) for done, total, _ in told] == [(0, 3), (2, 3), (3, 3)]
    again = fukusen.audit(spec, str(pictures), str(out), **asked, batch=2, command="make audit")
    assert (again.verdict["environment"]["kept"], again.verdict["command"]) == (3, "make audit")


@pytest.mark.usefixtures("paths")
def test_another_device_changes_nothing_that_is_known_of_the_model(model: Classifier, tmp_path: Path) -> None:
    """What it is called and what was assumed of it goes along."""
    noted = replace(model, spec="mine", notes=("assumed", *model.notes))
    moved = fukusen.audit(noted, tmp_path / "in", tmp_path / "out", methods=METHODS, scores=SCORES, device="cpu:0")
    known = moved.verdict["model"]
    assert (known["spec"], known["notes"]) == ("mine", list(noted.notes))


def test_an_attack_keeps_predictions_and_redraws_maps(model: Classifier, paths: list[Path]) -> None:
    """A twin like any other model: its logit maps are not the model's, and its log-odds maps are."""
    twin = fukusen.attack(model, "corner_shift", paths, strength=10)
    assert twin.promise.kept
    assert (twin.promise.flips, twin.promise.images) == (0, 3)
    assert 0 <= twin.promise.largest_change <= twin.promise.tolerance
    own, redrawn = _maps(model, paths, targets=1), _maps(twin, paths, targets=1)
    torch.testing.assert_close(own["grad_cam", "log_odds"], redrawn["grad_cam", "log_odds"], rtol=1e-3, atol=1e-5)
    corner = redrawn["grad_cam", "logit"][:, 0, 0]
    assert (corner.abs() > 10 * own["grad_cam", "logit"][:, 0, 0].abs()).all()
    assert fukusen.attack(model, "corner_shift").promise.kept


def test_an_attack_that_is_misspelt_is_said(model: Classifier) -> None:
    """The name or the parameter, and what there is instead."""
    known = ", ".join(sorted(fukusen.list_attacks()))
    unknown = "There is no parameter of the attack 'corner_shift' named 'strenght'. Did you mean 'strength'?"
    for name, parameters, said in (
        ("corner_shfit", {}, f"There is no attack named 'corner_shfit'. Did you mean 'corner_shift'? Known: {known}."),
        ("corner_shift", {"strenght": 3}, f"{unknown} Known: strength."),
    ):
        with pytest.raises(CallError) as caught:
            fukusen.attack(model, name, **parameters)
        assert str(caught.value) == said


def test_an_attack_that_cannot_be_played_is_said() -> None:
    """A network without rows and columns has no corner."""
    flat = fukusen.wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval(), CenterCrop(8), head="softmax")
    with pytest.raises(ModelError) as caught:
        fukusen.attack(flat, "corner_shift")
    assert str(caught.value) == "The network has no layer with rows and columns, so there is no corner to point at."


@pytest.mark.parametrize("kind", ["methods", "scores", "agreements", "checks", "attacks"])
def test_what_there_is_can_be_listed(kind: str) -> None:
    """Names, no two alike, and each in its own list."""
    names = getattr(fukusen, f"list_{kind}")()
    assert len(names) == len(set(names))
    assert len({"grad_cam", "log_odds", "spearman", "shift_share", "corner_shift"} & set(names)) == 1
