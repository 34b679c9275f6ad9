"""A repair chosen by what is measured, and its promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fukusen
from fukusen.attacks import attacks
from fukusen.errors import DataError, ModelError
from fukusen.models import Classifier, open_picture, wrap
from fukusen.records import Undefined
from fukusen.repairs import repaired
from fukusen.repairs.repair import leaks_of

Make = Callable[..., Classifier]
CLASSES = 7
PANEL = ["grad_cam", "hires_cam", "layer_cam", "gradient", "input_x_gradient"]


def _likeness(reference: Classifier, fixed: Classifier, images: Tensor) -> float:
    """The worst cosine between the reference's maps of the centred logit and the repaired model's of the logit."""
    scores = ["logit", "centered_logit"]
    was, now = (fukusen.explain(one, images, methods=PANEL, scores=scores) for one in (reference, fixed))
    pairs = [(was[method, "centered_logit"].flatten(1), now[method, "logit"].flatten(1)) for method in PANEL]
    return min(float(torch.cosine_similarity(*pair).min()) for pair in pairs)


@pytest.mark.parametrize(
    ("head", "after", "way"),
    [
        (nn.Linear(8, CLASSES), "nothing", "weights"),
        (nn.Conv2d(8, CLASSES, 1), "nothing", "weights"),
        (nn.Linear(8, CLASSES), "branch", "wrapper"),
        (nn.Linear(8, CLASSES), "slope", "wrapper"),
        (nn.Linear(8, CLASSES), "cooled", "wrapper"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_way_is_the_least_that_is_enough(
    made: Make, head: nn.Module, after: str, way: str, *, dtype: torch.dtype, images: Tensor
) -> None:
    """Same probabilities, no leak, and the maps of the centred logit, whatever was shared."""
    model = made(head, after, dtype)
    fixed = repaired(model, [images[:4], images[4:]])
    assert fixed.way == way
    assert fixed.promise.kept
    assert fixed.promise.images == 6
    was, now = (one.probabilities(one.logits(images)) for one in (model, fixed))
    assert float((was - now).abs().max()) == pytest.approx(fixed.promise.largest_change, abs=1e-9)
    assert max(leak.worst for leak in fixed.before if isinstance(leak.worst, float)) > 1
    assert max(leak.worst for leak in fixed.after if isinstance(leak.worst, float)) < 1e-4
    assert _likeness(model, fixed, images) > 0.99999


@pytest.mark.parametrize("name", [name for name in attacks.names() if attacks.get(name).family == "logits"])
def test_it_undoes_every_shift_of_the_logits(made: Make, name: str, images: Tensor) -> None:
    """Maps of the repaired twin's logit are the clean model's of the centred logit."""
    model = _flat() if name == "hidden_unit" else made(nn.Linear(8, CLASSES))
    twin = fukusen.attack(model, name, images)
    assert isinstance(twin, Classifier)
    fixed = fukusen.repair(twin, images)
    assert fixed.promise.kept
    assert _likeness(model, fixed, images) > 0.9999


def _flat() -> Classifier:
    """A network whose linear layers read the cells one by one, as that attack needs."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 9), nn.ReLU(), nn.Linear(9, CLASSES)
    return wrap(nn.Sequential(*layers).eval(), input_size=(3, 12, 12), head="softmax")


def test_maps_read_from_the_logits_themselves_are_centred_behind_them(made: Make, images: Tensor) -> None:
    """There each logit has cells of its own, which no weights before them can make share less."""
    model = wrap(made(nn.Conv2d(8, CLASSES, 1)).net, layer="head", input_size=(3, 12, 12), head="softmax")
    fixed = fukusen.repair(model, images)
    assert fixed.way == "wrapper"
    assert _likeness(model, fixed, images) > 0.99999


def test_a_repaired_model_is_a_model_like_any_other(made: Make, images: Tensor) -> None:
    """It can be repaired and attacked again, and the model given is left alone."""
    model = made(nn.Linear(8, CLASSES))
    weights = {name: value.clone() for name, value in model.net.state_dict().items()}
    model.net.train()
    fixed = fukusen.repair(model, images)
    assert model.net.training
    assert fixed.net.training
    assert all(torch.equal(value, weights[name]) for name, value in model.net.state_dict().items())
    again = fukusen.repair(fukusen.attack(fixed, "corner_shift", images, strength=5), images)
    assert _likeness(model, again, images) > 0.9999
    assert fixed.digest != model.digest
    assert fixed.spec == "wrapped network after repair"


def test_rounding_sets_what_can_be_promised(made: Make, images: Tensor) -> None:
    """Where the given logits are coarse, so is the promise, up to what is no longer the same function."""
    model = made(nn.Linear(8, CLASSES))
    with torch.no_grad():
        model.net.head.weight += 1e4  # type: ignore[union-attr, operator]
    fixed = fukusen.repair(model, images)
    assert fixed.promise.tolerance <= 1e-4
    assert fixed.promise.kept


def test_a_network_without_gradients_is_wrapped(made: Make, images: Tensor) -> None:
    class Still(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = made(nn.Linear(8, CLASSES)).net

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images).detach()

    model = wrap(Still(), input_size=(3, 12, 12), head="softmax")
    assert model.layer is None
    fixed = fukusen.repair(model, images)
    assert (fixed.way, fixed.promise.kept) == ("wrapper", True)
    assert [leak.worst for leak in fixed.after] == [Undefined("the network lets no gradient through")]
    assert fixed.after[0].as_json() == {"place": "input", "median": None, "worst": None, "images": 6}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("sigmoid", "There is nothing to repair. A number added to every output of a model of independent labels"),
        ("probabilities", "There is nothing to repair. This model returns probabilities: softmax stands inside it"),
        ("log_probabilities", "There is nothing to repair. This model returns log-probabilities: softmax stands"),
        ("one_logit", "There is nothing to repair. A model with one logit has no other that could share a shift"),
    ],
)
def test_heads_without_a_free_shift_are_refused(made: Make, kind: str, told: str, images: Tensor) -> None:
    model = made(nn.Linear(8, CLASSES))
    with pytest.raises(ModelError) as refused:
        repaired(replace(model, head=replace(model.head, kind=kind)), [images])
    assert str(refused.value).startswith(told)


def test_leaks_are_the_checks(made: Make, images: Tensor) -> None:
    """The same ratio as the audit's shift_share, measured here with plain autograd."""
    model = made(nn.Linear(8, CLASSES), dtype=torch.float64)
    (_, leak) = leaks_of(model, images)
    values = images.double().requires_grad_()
    logits = model.net(values)
    winner = logits.argmax(dim=1, keepdim=True)
    mean = logits.mean(dim=1)
    shared, own = (
        torch.autograd.grad(one.sum(), values, retain_graph=True)[0].flatten(1).norm(dim=1)
        for one in (mean, logits.gather(1, winner)[:, 0] - mean)
    )
    assert leak.worst == pytest.approx(float((shared / own).max()), rel=1e-6)
    assert leak.median == pytest.approx(float((shared / own).median()), rel=1e-6)


def test_no_usable_image_is_said(made: Make, images: Tensor) -> None:
    model = made(nn.Linear(8, CLASSES))
    with pytest.raises(DataError) as none:
        fukusen.repair(model, torch.full((1, 3, 12, 12), float("nan")))
    assert str(none.value) == (
        "None of the 1 images can be used. image 0: its preprocessed pixels are NaN or infinite."
    )


UNREADABLE = "hidden_unit"  # it needs linear layers that read the cells one by one, which the demo network has none of


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in attacks.names() if attacks.get(name).family == "logits" and name != UNREADABLE]
)
def test_the_demo_network_is_cured_and_the_audit_does_not_fail_it(
    lite0: Classifier, name: str, imagenet_paths: tuple[Path, ...], tmp_path: Path
) -> None:
    """Its maps are the clean network's, and the audit finds nothing of the attack."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in imagenet_paths[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    fixed = fukusen.repair(fukusen.attack(lite0, name, [str(path) for path in imagenet_paths[:4]]), folder)  # type: ignore[arg-type]
    assert lite0.preprocess is not None
    images = torch.stack([lite0.preprocess(open_picture(path)) for path in imagenet_paths[:4]])
    assert fixed.promise.kept
    assert _likeness(lite0, fixed, images) > 0.9999
    done = fukusen.audit(fixed, folder, tmp_path / "audit", budget="quick")
    assert done.status != "fail"
    assert [finding for finding in done.findings if finding["check"] in ("shift_share", "head_mean_row")] == []
