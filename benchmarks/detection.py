"""Which manipulations an audit notices: every attack that is registered, on clean models of many kinds.

Digit networks are trained with 2, 3, 5 and 10 classes, from several seeds, with Adam and SGD, for softmax and for
independent labels, from nothing or from another network with a random head; or digit networks of other shapes; or
EfficientNet-Lite0 to 2 are taken, with the demo's photographs. Each is audited as it is, and then each attack is
played on a copy at several strengths, and the copy is audited in the same way. Written as tables, between the two
marks of docs/explanation/detection.md that ``--write`` names:

- ``clean``: the audits of the models as they are: their status, and the share of images in the queue;
- ``attacks``: how often an attack showed, which means that a heatmap's median likeness to the one before fell below the
  bound for "redrawn", and, where an attack trains and so changes heatmaps in any case, that it came at least half of
  the way to its own aim; how often the audit noticed it, of those and of all; and by which checks.

    python benchmarks/detection.py --classes 2 10 --seeds 1 --optimiser adam --write untrained
    python benchmarks/detection.py --classes 2 10 --head softmax sigmoid --start tuned --seeds 2 --write kinds
    python benchmarks/detection.py --model lite0 lite1 lite2 --factor 0.1 1 10 --write imagenet
    python benchmarks/detection.py --classes 2 10 --attack row_shift cancelling_pair --reference --write weights
    python benchmarks/detection.py --classes 2 10 --seeds 5 --family training --budget standard --write alone
    python benchmarks/detection.py --classes 2 10 --seeds 5 --family training --reference --write trained
    python benchmarks/detection.py --shape vgg resnet --family training --budget standard --write shapes
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from digits import Digits, Recipe, accuracy, placed, trained
from lites import SIZES, lite
from PIL import Image
from shapes import SHAPES, Kind, learnt

import fukusen
from fukusen.attacks import Attack, attacks
from fukusen.auditing.bounds import REDRAWN
from fukusen.models import Classifier
from fukusen.records import Spec
from fukusen.registry import spec_of

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "detection.md"
MARKS = "<!-- measured: {} -->", "<!-- end of {} -->"
FACTORS = (0.01, 0.1, 1.0, 10.0)
SPACES = ("logit", "log_odds", "joint")
UNTRAINED = ("logits", "value", "weights")
TABLES = ("untrained", "kinds", "imagenet", "alone", "shapes", "weights", "trained")
HELD_OUT = 60
IMAGES = 24
HALF_WAY = 0.5
OTHER_SEED = 1000


@dataclass(frozen=True)
class Subject:
    """A clean model, pictures that it has not been trained on, and how another of its kind is trained if it is."""

    name: str
    model: Classifier
    pictures: Path | str
    recipe: Recipe | None = None


@dataclass
class Tally:
    """What became of one attack at one strength over all models."""

    played: int = 0
    shown: int = 0
    noticed: int = 0
    noticed_shown: int = 0
    broken: int = 0
    checks: Counter[str] = field(default_factory=Counter)

    def add(self, entry: dict[str, Any]) -> None:
        shown = any(row["redrawn"] for row in entry["rows"])
        if entry["aim"] is not None:
            shown = shown and entry["aim"]["way"] >= HALF_WAY
        self.played += 1
        self.shown += shown
        self.noticed += entry["noticed"]
        self.noticed_shown += shown and entry["noticed"]
        self.broken += not entry["promise"]["kept"]
        self.checks.update({finding["check"] for finding in entry["audit"]["findings"]})

    def row(self, attack: str, strength: str) -> list[str]:
        ordered = sorted(self.checks.items(), key=lambda pair: (-pair[1], pair[0]))
        found = ", ".join(f"{name} {count}" for name, count in ordered)
        parts = [attack, strength, self.played, self.shown, f"{self.noticed_shown} of {self.shown}", self.noticed]
        return [*map(str, parts), found or "none", str(self.broken)]


def subjects(recipes: Sequence[Recipe], place: Path) -> Iterator[Subject]:
    """Trained networks, each with as many pictures as were held out."""
    data = placed(0)
    for number, recipe in enumerate(recipes):
        learn = partial(trained, recipe=recipe)
        yield replace(taught(recipe.name, data.below(recipe.classes), learn, place / f"{number}"), recipe=recipe)


def shaped(kinds: Sequence[Kind], place: Path) -> Iterator[Subject]:
    """Trained networks of other shapes, each with as many pictures as were held out."""
    for number, kind in enumerate(kinds):
        yield taught(kind.name, placed(kind.seed).below(kind.classes), partial(learnt, kind), place / f"{number}")


def taught(name: str, data: Digits, learn: Callable[[Digits], Classifier], folder: Path) -> Subject:
    """A network that has learnt all but the last digits, and these as pictures."""
    model, rest = learn(data.part(0, -HELD_OUT)), data.part(-HELD_OUT, None)
    return Subject(f"{name} (accuracy {accuracy(model, rest):.2f})", model, pictures_of(rest, folder, IMAGES))


def pictures_of(data: Digits, folder: Path, count: int) -> Path:
    """The first digits as PNG files in a new folder."""
    folder.mkdir()
    for number in range(count):
        grey = (data.images[number, 0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(grey).save(folder / f"{number:02}.png")
    return folder


def scenarios(families: Sequence[str], named: Sequence[str], factors: Sequence[float]) -> list[Attack]:
    """The attacks of these families, or those that are named.

    Each is weaker and stronger by these factors where it has a strength, and in each score where it trains.
    """
    found: list[Attack] = []
    for name in named or attacks.names():
        attack = attacks.build(name)
        if attack.family not in families and not named:
            continue
        if hasattr(attack, "stamped"):
            continue  # it sleeps until its sticker is in the picture, and there is none
        fields = vars(attack)
        if "space" in fields:
            found += [attacks.build(Spec.of(name, space=space)) for space in SPACES]
        elif "strength" in fields:
            found += [attacks.build(Spec.of(name, strength=factor * fields["strength"])) for factor in factors]
        else:
            found.append(attack)
    return found


def strength_of(entry: dict[str, Any]) -> str:
    """What is set about an attack, in words."""
    known = {**vars(attacks.build(entry["attack"])), **entry["parameters"]}
    if "space" in known:
        return str(known["space"])
    return f"strength {known['strength']:g}" if "strength" in known else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(lines)


def reference_of(subject: Subject, place: Path, budget: Any) -> Path:
    """An audit of an honest network of the same kind from a seed that no subject has."""
    if subject.recipe is None:
        raise SystemExit(f"No other network like {subject.name} can be trained here: leave out --reference.")
    recipe = replace(subject.recipe, seed=subject.recipe.seed + OTHER_SEED)
    model = trained(placed(0).below(recipe.classes).part(0, -HELD_OUT), recipe)
    fukusen.audit(model, subject.pictures, place, budget=budget)
    return place


def measured(taken: Iterable[Subject], wanted: Sequence[Attack], budget: Any, *, beside: bool = False) -> str:
    """Both tables, in Markdown; beside a reference where that is asked for."""
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    clean: list[list[str]] = []
    played = [spec_of(attack) for attack in wanted]
    for number, subject in enumerate(taken, 1):
        print(f"{number}: {subject.name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place = Path(made)
            reference = reference_of(subject, place / "other", budget) if beside else None
            beyond: dict[str, Any] = {"budget": budget, "reference": reference}
            done = fukusen.red_team(subject.model, subject.pictures, place / "red", scenarios=played, **beyond)
            own = fukusen.audit(subject.model, subject.pictures, place / "red" / "model", **beyond)
        claims = ", ".join(sorted({one["check"] for one in own.findings})) or "none"
        clean.append([subject.name, own.status, f"{len(own.queue)} of {own.verdict['images']['audited']}", claims])
        for entry in done.scenarios:
            if not entry["undefined"]:
                tallies[entry["attack"], strength_of(entry)].add(entry)
    heads = ("attack", "set to", "played", "shown", "noticed of shown", "noticed", "by", "promise broken")
    rows = [tally.row(attack, strength) for (attack, strength), tally in tallies.items()]
    said = ", each beside an audit of an honest model of its kind from another seed" if beside else ""
    first = f"Measured at the budget {budget} on {len(clean)} models{said}; shown: below {REDRAWN.value} in some score."
    return "\n\n".join(
        [first, table(("clean model", "status", "images in the queue", "findings"), clean), table(heads, rows)]
    )


def written(mark: str, found: str) -> None:
    """Put what was measured, and this program's command, between two marks of the page."""
    begin, end = (one.format(mark) for one in MARKS)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    command = f"python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}"
    PAGE.write_text(f"{before}{begin}\n\n`{command}`\n\n{found}\n\n{end}{after}", encoding="utf-8")


def chosen(asked: argparse.Namespace, place: Path) -> Iterable[Subject]:
    """The models that the command line asks for, one after the other."""
    if asked.model:
        return (Subject(name, lite(name), "demo") for name in asked.model)
    if asked.shape:
        return shaped([Kind(*each) for each in product(asked.shape, asked.classes, range(asked.seeds))], place)
    each = product(asked.classes, asked.optimiser, asked.head, asked.start, range(asked.seeds))
    return subjects([Recipe(seed, classes, asked.epochs, *how) for classes, *how, seed in each], place)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--optimiser", nargs="+", choices=("adam", "sgd"), default=["adam"])
    parser.add_argument("--head", nargs="+", choices=("softmax", "sigmoid"), default=["softmax"])
    parser.add_argument("--start", nargs="+", choices=("fresh", "tuned"), default=["fresh"])
    parser.add_argument("--model", nargs="+", choices=tuple(SIZES), help="these, instead of digit networks")
    parser.add_argument("--shape", nargs="+", choices=tuple(SHAPES), help="digit networks of these shapes instead")
    parser.add_argument("--family", nargs="+", default=list(UNTRAINED))
    parser.add_argument("--attack", nargs="+", default=[], help="these alone, whatever their families")
    parser.add_argument("--factor", type=float, nargs="+", default=FACTORS, help="of an attack's own strength")
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument(
        "--reference", action="store_true", help="beside an audit of the same kind of model from another seed"
    )
    parser.add_argument("--write", choices=TABLES, help=f"between which marks of {PAGE.name}")
    asked = parser.parse_args()
    wanted = scenarios(asked.family, asked.attack, asked.factor)
    with tempfile.TemporaryDirectory() as made:
        found = measured(chosen(asked, Path(made)), wanted, asked.budget, beside=asked.reference)
    print(found)
    if asked.write:
        written(asked.write, found)


if __name__ == "__main__":
    main()
