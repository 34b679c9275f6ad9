"""What integrated gradients in five scores cost, against five runs of captum's at the same points.

Both use the same Gauss-Legendre points, so their completeness errors must agree; they are printed side by side:

    python benchmarks/path_cost.py --model demo --batch 4 --steps 8
"""

from __future__ import annotations

import argparse

import torch
from panel_cost import CLOCKS, FORMULAS, Formula, Subject, subject
from torch import Tensor

from fukusen.methods import methods
from fukusen.records import Spec
from fukusen.scores import scores

BOUND = 0.5


def by_fukusen(it: Subject, steps: int) -> list[Tensor]:
    """All scores at once, through the engine."""
    method = methods.build(Spec.of("integrated_gradients", steps=steps))
    return list(method.maps(it.tape(it.engine), [scores.build(name) for name in FORMULAS]))


def by_captum(it: Subject, steps: int) -> list[Tensor]:
    """One score after the other, a batch of points at a time."""
    from captum.attr import IntegratedGradients

    found = []
    for formula in FORMULAS.values():

        def forward(x: Tensor, c: Tensor, formula: Formula = formula) -> Tensor:
            return formula(it.model.net(x), c)

        peer = IntegratedGradients(forward)
        options = {"n_steps": steps, "method": "gausslegendre", "internal_batch_size": len(it.images)}
        found.append(peer.attribute(it.images, additional_forward_args=(it.targets,), **options).sum(dim=1))
    return found


def errors(it: Subject, maps: list[Tensor]) -> list[float]:
    """For each score the largest distance of an image's sum from its score's change, relative to the change."""
    with torch.no_grad():
        end, start = (it.model.net(images).double() for images in (it.images, torch.zeros_like(it.images)))
    changes = [formula(end, it.targets) - formula(start, it.targets) for formula in FORMULAS.values()]
    sums = [one.double().sum(dim=(1, 2)) for one in maps]
    return [float(((a - b) / b).abs().max()) for a, b in zip(sums, changes, strict=True)]


def main() -> int:
    """Measure in turn, print; exit status 1 where the bound is missed."""
    parser = argparse.ArgumentParser(description="What integrated gradients in five scores cost.")
    parser.add_argument("--model", default="demo", help="demo, resnet18, vit_tiny, or as in fukusen.load")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--steps", type=int, default=8, help="points on the line")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: steadier where others use the machine")
    options = parser.parse_args()
    it, clock = subject(options.model, options.batch), CLOCKS[options.clock]
    print(
        f"{options.model}, batch {options.batch}, {options.steps} steps, {torch.get_num_threads()} threads\n{it.note}"
    )
    seconds = []
    for name, run in (("fukusen, 5 scores at once", by_fukusen), ("captum, 5 runs", by_captum)):
        begin = clock()
        maps = run(it, options.steps)
        seconds.append(clock() - begin)
        told = "  ".join(f"{score} {error:.1e}" for score, error in zip(FORMULAS, errors(it, maps), strict=True))
        print(f"{name:<28}{seconds[-1]:>8.2f} s   completeness error: {told}")
    ratio = seconds[0] / seconds[1]
    print(f"fukusen / captum            {ratio:>8.2f}     (at most {BOUND}: {'kept' if ratio <= BOUND else 'MISSED'})")
    return 0 if ratio <= BOUND else 1


if __name__ == "__main__":
    raise SystemExit(main())
