"""Moving the cells of a layer of tokens: the class token stays, and the checks see what they see elsewhere."""

from __future__ import annotations

import pytest
import torch

from fukusen.arrays import Batch
from fukusen.attacks import attacks
from fukusen.checks import GradientTruth, ShiftShare, Sight
from fukusen.checks.probing import probe_of
from fukusen.models import Classifier, Layer, wrap
from fukusen.records import Spec, Undefined
from fukusen.scores import Logit
from fukusen.tape import Tape


@pytest.fixture(scope="module")
def transformer() -> Classifier:
    """Two blocks, a class token that alone is read, and 3 x 3 patches."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(41)
    sizes = {"img_size": 24, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2}
    net = timm.create_model("vit_tiny_patch16_224", num_classes=6, **sizes).eval()
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(3)
    return wrap(net, input_size=(3, 24, 24), head="softmax")


def test_moves_are_added_to_the_cells_alone(images: torch.Tensor, transformer: Classifier) -> None:
    """All at once gives what one by one gives when the tokens are changed by hand."""
    layer = transformer.layer
    assert layer == Layer("blocks.1.norm1", 0, "tokens", (24, 3, 3), 1)
    probe = probe_of(transformer, Tape(transformer, Batch(("a",), images[:1])), 0)
    assert probe.is_double
    moves = torch.randn(4, 24, 3, 3, generator=torch.Generator().manual_seed(42), dtype=torch.float64)
    together = probe.moved(layer, moves)
    for move, found in zip(moves, together, strict=True):

        def edit(output: torch.Tensor, move: torch.Tensor = move) -> torch.Tensor:
            changed = output.clone()
            for row in range(3):
                for column in range(3):
                    changed[0, 1 + 3 * row + column] += move[:, row, column]
            return changed

        alone = probe.log_odds(probe.model.run(probe.image, edits={layer: edit}).logits)
        torch.testing.assert_close(found, alone[0])
    assert together.std() > 0


def _worst(model: Classifier, images: torch.Tensor) -> dict[tuple[str, str], float]:
    tape = Tape(model, Batch(("a", "b", "c"), images))
    found: dict[tuple[str, str], float] = {}
    for check in (GradientTruth(), ShiftShare()):
        for one in check.measure(Sight(model, tape, {}, {})):
            assert not isinstance(one.value, Undefined)
            key = (check.name, "input" if one.layer == "input" else "layer")
            found[key] = max(found.get(key, 0.0), float(one.value))
    return found


def test_an_honest_transformer_is_found_true(images: torch.Tensor, transformer: Classifier) -> None:
    found = _worst(transformer, images)
    assert found["gradient_truth", "layer"] < 1e-5
    assert found["gradient_truth", "input"] < 1e-4


@pytest.mark.parametrize(("attack", "seen_by"), [("corner_shift", "shift_share"), ("stop_gradient", "gradient_truth")])
def test_attacks_on_a_patch_are_seen(images: torch.Tensor, transformer: Classifier, attack: str, seen_by: str) -> None:
    """The corner is that of the first patch, and not the class token."""
    twin = attacks.build(Spec.of(attack, strength=10)).twin(transformer, images)
    before, after = _worst(transformer, images), _worst(twin, images)
    assert after[seen_by, "layer"] > 10 * before[seen_by, "layer"]
    assert after[seen_by, "layer"] > 0.1
    assert twin.layer is not None
    gradient = _difference(transformer, twin, images)
    assert gradient[0, 0] > 0
    assert float(gradient.flatten()[1:].max()) < 1e-4 * float(gradient[0, 0])


def _difference(model: Classifier, twin: Classifier, images: torch.Tensor) -> torch.Tensor:
    """How much of a logit's gradient at each cell is new."""
    slopes = []
    for each in (model, twin):
        assert each.layer is not None
        slopes.append(Tape(each, Batch(("a",), images[:1])).gradient(Logit(), each.layer)[0])
    return (slopes[1] - slopes[0]).abs().amax(dim=0)
