"""What short fine-tunes do to the Grad-CAM of a small network, in the score that they train on and in the other.

Digits at random places on a canvas; the network is trained, then fine-tuned by each attack on its training images
without their labels. Printed for every seed, on images that neither has seen:

- ``box``, ``edge``: which share of the positive part of Grad-CAM lies on the digit's box, and on the frame along the
  edges, for the logit and for the log-odds;
- ``accuracy``, and ``moved``: half the sum of the changes of an image's probabilities, averaged;
- ``alike``: the cosine of the positive parts of the logit's and the log-odds' map.

    python benchmarks/fine_tuned.py --seeds 3 --steps 300
"""

from __future__ import annotations

import argparse
import time

import torch
from digits import Digits, Recipe, accuracy, placed, trained
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

import fukusen
from fukusen.models import Classifier

SPACES = ("logit", "log_odds", "joint")
PLAYED = (*(("location", space) for space in SPACES), *((name, "logit") for name in ("sham_border", "top_k")))
PLAYED += (("center_mass", "logit"),)
TRAINED_ON = 1300
SCORES = ("logit", "log_odds")


def share(maps: Tensor, where: Tensor) -> float:
    """The share of the maps' positive part on cells (h, w) or (b, h, w), averaged over the images."""
    positive = maps.clamp_min(0)
    return float(((positive * where).sum(dim=(1, 2)) / positive.sum(dim=(1, 2)).clamp_min(1e-12)).mean())


def edges(side: int) -> Tensor:
    """1 on the outermost cells of a square map, a seventh of its side wide."""
    made = torch.ones(side, side)
    edge = max(1, side // 7)
    made[edge:-edge, edge:-edge] = 0
    return made


def line(told: str, model: Classifier, twin: Classifier, data: Digits) -> str:
    """What is printed of a twin."""
    targets = model.logits(data.images).argmax(dim=1)
    panel = fukusen.explain(twin, data.images, targets, methods=["grad_cam"], scores=list(SCORES))
    maps = [panel["grad_cam", score] for score in SCORES]
    boxes = adaptive_avg_pool2d(data.boxes[:, None], maps[0].shape[1:])[:, 0]
    before, after = (one.probabilities(one.logits(data.images)) for one in (model, twin))
    parts = [told.ljust(22)]
    for place in (boxes, edges(maps[0].shape[1])):
        parts += [f"{share(one, place):8.2f}" for one in maps]
    alike = cosine_similarity(*(one.clamp_min(0).flatten(1) for one in maps)).mean()
    moved = (after - before).abs().sum(dim=1).mean() / 2
    return " ".join([*parts, f"{accuracy(twin, data):8.3f} {float(moved):8.3f} {float(alike):8.2f}"])


def main() -> None:
    """Train, attack, print."""
    parser = argparse.ArgumentParser(description="What short fine-tunes do to Grad-CAM.")
    parser.add_argument("--seeds", type=int, default=3, help="networks")
    parser.add_argument("--steps", type=int, default=300, help="batches of 32 to fine-tune on")
    parser.add_argument("--lr", type=float, default=1e-3, help="Adam's step size")
    parser.add_argument("--strength", type=float, default=4.0, help="lambda")
    options = parser.parse_args()
    print(f"{'':22} " + " ".join(f"{word:>8}" for word in ("box", "box", "edge", "edge", "accuracy", "moved", "alike")))
    print(f"{'':22} " + " ".join(f"{word:>8}" for word in (*SCORES, *SCORES)))
    for seed in range(options.seeds):
        data = placed(seed)
        known, unseen = data.part(0, TRAINED_ON), data.part(TRAINED_ON, None)
        model = trained(known, Recipe(seed))
        print(line(f"seed {seed}, clean", model, model, unseen), flush=True)
        for name, space in PLAYED:
            begin = time.perf_counter()
            asked = {"steps": options.steps, "lr": options.lr, "batch": 32, "strength": options.strength}
            twin = fukusen.attack(model, name, known.images, space=space, seed=seed, **asked)
            took = time.perf_counter() - begin
            print(line(f"{name}, {space}", model, twin, unseen) + f"  {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
