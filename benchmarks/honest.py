"""What an audit says of honest networks of many shapes: their status, and how many images wait for a person.

Each network learns digits at random places of a canvas, from a seed of its own, and is then audited as it is on
pictures that it has not been trained on. Nobody manipulated it: what an audit finds is a false alarm, or true of an
honest network. Written as a table between two marks of docs/explanation/detection.md with ``--write``.

    python benchmarks/honest.py --classes 2 10 --seeds 1 --write
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from detection import pictures_of, table, written
from digits import accuracy, placed
from shapes import SHAPES, Kind, learnt

import fukusen
from fukusen.repairs import repaired

MARK = "honest"
IMAGES = 40


def row_of(kind: Kind, budget: str, *, repair: bool) -> list[str]:
    """What an audit says of one network, or of the same once it is repaired."""
    own = placed(kind.seed).below(kind.classes)
    model = learnt(kind, own.part(0, -IMAGES))
    rest = own.part(-IMAGES, None)
    if repair:
        model = repaired(model, [rest.images])
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = pictures_of(rest, Path(made) / "pictures", IMAGES)
        done = fukusen.audit(model, folder, Path(made) / "audit", budget=budget)
    told = [one for one in done.findings if one["scope"] == "model"]
    (shift,) = (row["value"] for row in done.verdict["checks"] if row["check"] == "shift_in_map")
    claims = ", ".join(sorted({f"{one['check']} ({one['method']})" if one["method"] else one["check"] for one in told}))
    queue = f"{len(done.queue)} of {done.verdict['images']['audited']}"
    name = kind.name + (", repaired" if repair else "")
    return [name, f"{accuracy(model, rest):.2f}", done.status, queue, f"{shift:.2f}", claims or "none"]


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=tuple(SHAPES), default=tuple(SHAPES))
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--repaired", action="store_true", help="audit them without what all their logits share")
    parser.add_argument("--write", action="store_true", help="into docs/explanation/detection.md")
    asked = parser.parse_args()
    rows = []
    for seed in range(asked.first, asked.first + asked.seeds):
        for classes in asked.classes:
            for shape in asked.shape:
                rows.append(row_of(Kind(shape, classes, seed), asked.budget, repair=asked.repaired))
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    found = table(
        ("network", "accuracy", "status", "images in the queue", "shift_in_map", "findings about the model"), rows
    )
    print(found)
    if asked.write:
        written(MARK, f"Measured at the budget {asked.budget} on {len(rows)} models.\n\n{found}")


if __name__ == "__main__":
    main()
