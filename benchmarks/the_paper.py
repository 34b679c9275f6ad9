"""Lerma and Lucas' experiment in numbers: writes docs/explanation/the-paper.md and its pictures.

Every figure of that page is measured here, on EfficientNet-Lite0 with its ImageNet weights (global average pooling and
a linear layer) and the demo's photographs, and on a VGG-style network (flattened map, hidden linear layers) that is
trained here on digits at random places:

    python benchmarks/the_paper.py
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from digits import CANVAS, Digits, accuracy, placed
from torch import Tensor, nn

import fukusen
from fukusen.arrays import Batch, Images
from fukusen.attacks import Attack, CornerShift, DrawnTarget, HiddenUnit, MaskedContrast, RowShift, goal_of, verified
from fukusen.auditing import Panel
from fukusen.auditing.redrawing import likeness
from fukusen.models import Classifier, Layer, open_picture, wrap
from fukusen.models.preprocessing import Preprocess, as_seen
from fukusen.pictures import Sheet, contact_sheet
from fukusen.runner import items_of
from fukusen.tape import Tape
from fukusen.twins import Twin

CAMS = ("grad_cam", "grad_cam_plus_plus", "x_grad_cam", "hires_cam", "layer_cam")
SCORES = ("logit", "centered_logit", "log_odds", "probability")
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
LARGE = (1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "the-paper.md"
PICTURE = "the-paper.webp"
Row = Sequence[object]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with images of its kind, and their names."""

    name: str
    model: Classifier
    images: Images
    items: tuple[str, ...]

    def panel(self, model: Classifier, methods: Sequence[str] = CAMS, scores: Sequence[str] = SCORES) -> Panel:
        return fukusen.explain(model, self.images, targets=self.targets, methods=list(methods), scores=list(scores))

    @property
    def targets(self) -> list[int]:
        return [int(one) for one in self.model.logits(self.images).argmax(dim=1)]


def lite0() -> Subject:
    """The packaged network, read behind its last ReLU6 as in the paper, and the demo's photographs."""
    model, items = fukusen.load("demo", layer="_swish"), items_of("demo")
    prepare = cast(Preprocess, model.preprocess)
    images = torch.stack([prepare(open_picture(item.path)) for item in items])
    return Subject("EfficientNet-Lite0", model, images, tuple(item.name for item in items))


def vgg_like(seed: int) -> nn.Sequential:
    """Convolutions, a flattened map, two hidden linear layers: the head of a VGG in small."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for below, above in ((1, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(below, above, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        side = CANVAS // 8
        head = [nn.Linear(32 * side * side, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)]
        return nn.Sequential(*layers, nn.Flatten(), *head)


def elsewhere(data: Digits, chance: torch.Generator) -> Images:
    """The same digits at other places of their canvas."""
    moved = torch.empty_like(data.images)
    for number, (image, box) in enumerate(zip(data.images, data.boxes, strict=True)):
        shifts = []
        for axis in (1, 0):
            inside = box.amax(dim=axis).nonzero()[:, 0].tolist()
            room = CANVAS - len(inside)
            shifts.append(int(torch.randint(0, room + 1, (1,), generator=chance)) - inside[0])
        moved[number] = image.roll(shifts, dims=(1, 2))
    return moved


def vgg(seed: int = 0) -> tuple[Subject, float]:
    """The VGG-style network trained on digits, 40 images that it has not seen, and its accuracy."""
    data = placed(seed)
    train, test = data.part(0, 1300), data.part(1300, None)
    net, chance = vgg_like(seed), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(30):
        images = elsewhere(train, chance)
        for which in torch.randperm(len(images), generator=chance).split(64):
            loss = nn.functional.cross_entropy(net(images[which]), train.labels[which])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model = wrap(net.eval(), input_size=(1, CANVAS, CANVAS), head="softmax", layer="8")
    names = tuple(f"digit {number}" for number in range(40))
    return Subject("VGG-style network", model, test.images[:40], names), accuracy(model, test)


def twin_of(attack: Attack, subject: Subject) -> Twin:
    """The attack's twin; its promise measured on the subject's images."""
    return cast(Twin, verified(attack, subject.model, subject.images))


def median(values: Sequence[float] | Tensor) -> float:
    return float(statistics.median(values.tolist() if isinstance(values, Tensor) else values))


def mass(maps: Tensor, mask: Tensor) -> float:
    """Median share of the positive part that lies where the mask is 1; images with an empty map are left out."""
    heat = maps.double().clamp_min(0)
    totals = heat.sum(dim=(1, 2))
    shares = ((heat * mask).sum(dim=(1, 2)) / totals)[totals > 0]
    return median(shares) if len(shares) else float("nan")


def cosines(one: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(one.double().flatten(1), other.double().flatten(1))


def table(heads: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(one) for one in line) + " |" for line in lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:  # noqa: PLR0124 - NaN is not itself
        return "no map"
    return f"{value:.2f}" if abs(value) >= 0.005 or value == 0 else f"{value:.1e}"


def corner(subject: Subject, strengths: Sequence[float]) -> str:
    """What the literal recipe does to each map."""
    before = subject.panel(subject.model)
    height, width = before[CAMS[0], "logit"].shape[1:]
    cell = torch.zeros(height, width)
    cell[0, 0] = 1
    rows: list[Row] = []
    for strength in strengths:
        twin = twin_of(CornerShift(strength), subject)
        after = subject.panel(twin)
        for method in CAMS:
            seen = [likeness("positive", before[method, score], after[method, score]) for score in SCORES]
            where = [mass(panel[method, "logit"], cell) for panel in (before, after)]
            rows.append([f"{strength:g}", method, f"{twin.promise.largest_change:.1e}", *seen, *where])
    heads = ["K", "map", "max change of p", *(f"SSIM, {score}" for score in SCORES), "corner before", "corner after"]
    return table(heads, rows)


def agnostic(subject: Subject, strength: float) -> float:
    """Smallest cosine over the images of the attacked Grad-CAM in logits to the plain sum of all activations."""
    after = subject.panel(twin_of(CornerShift(strength), subject), ["grad_cam"], ["logit"])
    layer = cast(Layer, subject.model.layer)
    tape = Tape(subject.model, Batch(subject.items, subject.images), at_input=False)
    plain = tape.activations(layer).sum(dim=1)
    return float(cosines(after["grad_cam", "logit"].clamp_min(0), plain).min())


def steered(subject: Subject, attacks: Sequence[tuple[str, Attack]]) -> str:
    """What Grad-CAM itself can be made to show."""
    before = subject.panel(subject.model, ["grad_cam"])
    rows: list[Row] = []
    for name, attack in attacks:
        twin = twin_of(attack, subject)
        after = subject.panel(twin, ["grad_cam"])
        shape = before["grad_cam", "logit"].shape[1:]
        goal = goal_of(attack, *shape)
        toward: list[object] = ["", ""]
        if goal is not None:
            wanted = goal[None].expand(len(subject.images), -1, -1)
            toward = [median(cosines(panel["grad_cam", "logit"].clamp_min(0), wanted)) for panel in (before, after)]
        still = float(cosines(before["grad_cam", "log_odds"], after["grad_cam", "log_odds"]).min())
        seen = likeness("positive", before["grad_cam", "logit"], after["grad_cam", "logit"])
        rows.append([name, f"{twin.promise.largest_change:.1e}", twin.promise.flips, seen, *toward, f"{still:.6f}"])
    heads = [
        "change",
        "max change of p",
        "classes changed",
        "SSIM, logit",
        "goal before",
        "goal after",
        "worst cosine, log-odds",
    ]
    return table(heads, rows)


def rounding(subject: Subject) -> str:
    """What is left of the log-odds map in single precision."""
    exact = subject.panel(subject.model.in_double(), ["hires_cam"], ["log_odds", "probability"])
    rows: list[Row] = []
    for strength in LARGE:
        twin = twin_of(CornerShift(strength), subject)
        ours = subject.panel(twin, ["hires_cam"], ["log_odds"])
        plain = naive(subject, twin)
        rows.append(
            [
                f"{strength:.0e}",
                f"{twin.promise.largest_change:.1e}",
                twin.promise.flips,
                float(cosines(ours["hires_cam", "log_odds"], exact["hires_cam", "log_odds"]).min()),
                float(cosines(plain["softmax"], exact["hires_cam", "probability"]).min()),
                float(cosines(plain["log-odds"], exact["hires_cam", "log_odds"]).min()),
            ]
        )
    heads = [
        "K",
        "max change of p",
        "classes changed",
        "fukusen's log-odds",
        "softmax by autograd",
        "log-odds by autograd",
    ]
    return table(heads, rows)


def naive(subject: Subject, twin: Classifier) -> dict[str, Tensor]:
    """HiResCAM maps by plain automatic differentiation of the textbook formulas."""
    layer = cast(Layer, twin.layer)
    capture = twin.run(subject.images, [layer], "layer")
    classes = torch.tensor(subject.targets)[:, None]
    formulas: dict[str, Callable[[Tensor], Tensor]] = {
        "softmax": lambda z: z.softmax(dim=1).gather(1, classes),
        "log-odds": lambda z: z.gather(1, classes)[:, 0] - z.scatter(1, classes, -torch.inf).logsumexp(dim=1),
    }
    found = {}
    for name, formula in formulas.items():
        total = formula(capture.logits).sum()
        (gradient,) = torch.autograd.grad(total, capture.outputs[layer], retain_graph=True)
        found[name] = (
            (layer.channels_first(capture.outputs[layer]) * layer.channels_first(gradient)).sum(dim=1).detach()
        )
    return found


def picture(subject: Subject, path: Path) -> None:
    """One photograph: the maps of the model, of the paper's copy and of two that draw."""
    image = subject.images[:1]
    one = Subject(subject.name, subject.model, image, subject.items[:1])
    models: list[tuple[str, Classifier]] = [("the model", subject.model)]
    for name, attack in (
        ("corner, K = 10", CornerShift(10.0)),
        ("masked contrast", MaskedContrast()),
        ("smiley", DrawnTarget()),
    ):
        models.append((name, twin_of(attack, one)))
    keys = [("grad_cam", "logit"), ("grad_cam", "log_odds"), ("hires_cam", "logit"), ("hires_cam", "log_odds")]
    panels = [one.panel(model, ["grad_cam", "hires_cam"], ["logit", "log_odds"]) for _, model in models]
    cells = {
        (down, across): panel.weight(*key, 0) for down, panel in enumerate(panels) for across, key in enumerate(keys)
    }
    lines = ["The class predicted and its probability are the same in every row."]
    rows = [(name, "") for name, _ in models]
    columns = [(method, score) for method, score in keys]
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(Sheet(as_seen(image[0]), one.items[0], lines, rows, columns, cells)).save(path, quality=80)


def page(gap: Subject, flat: tuple[Subject, float]) -> str:
    """The page in Markdown."""
    vgg_subject, read = flat
    drawn = [
        ("masked contrast, top left", MaskedContrast()),
        ("masked contrast, bottom right", MaskedContrast(region="bottom_right")),
        ("drawn target, smiley", DrawnTarget()),
        ("drawn target, decoy", DrawnTarget(picture="decoy")),
        ("row shift (weights alone)", RowShift()),
    ]
    values = {
        "images": len(gap.images),
        "corner": corner(gap, STRENGTHS),
        "agnostic": f"{agnostic(gap, 10.0):.4f}",
        "steered": steered(gap, drawn),
        "rounding": rounding(gap),
        "vgg_images": len(vgg_subject.images),
        "vgg_accuracy": f"{read:.3f}",
        "vgg_corner": corner(vgg_subject, (1.0, 100.0)),
        "vgg_hidden": steered(
            vgg_subject,
            [("corner shift (a branch)", CornerShift(100.0)), ("hidden unit (weights alone)", HiddenUnit(100.0))],
        ),
        "picture": PICTURE,
    }
    return (Path(__file__).with_name("the_paper.md")).read_text(encoding="utf-8").format(**values)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/explanation/the-paper.md and its picture.")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    out = parser.parse_args().out
    gap = lite0()
    out.parent.mkdir(parents=True, exist_ok=True)
    picture(gap, out.with_name(PICTURE))
    out.write_text(page(gap, vgg()), encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
