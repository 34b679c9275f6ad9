"""What a panel of gradient maps costs, against the passes that it cannot do without and against other packages.

One run measures, in one process and in turn, so that a busy machine slows all of them alike:

- ``forward``: one forward pass without a graph;
- ``floor``: one forward and three backward passes to the images, in plain torch;
- ``panel``: every single-pass method with all five scores, from a fresh tape;
- ``peers``: the same maps one by one, from captum (gradients) and pytorch-grad-cam (class activation maps).

Printed are the medians and their ratios, never a promise about another machine:

    python benchmarks/panel_cost.py --batch 16 --repeats 3 --model demo
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Images, Targets
from fukusen.methods import methods
from fukusen.models import Classifier, load
from fukusen.scores import scores
from fukusen.tape import Tape

Job = Callable[[], int]
Formula = Callable[[Tensor, Tensor], Tensor]
BOUND = 1.2
CAMS = ("GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM")
PACKAGES = ("fukusen", "torch", "captum", "grad-cam")


def _own(z: Tensor, c: Tensor) -> Tensor:
    return z.gather(1, c[:, None])[:, 0]


FORMULAS: dict[str, Formula] = {
    "logit": _own,
    "centered_logit": lambda z, c: _own(z, c) - z.mean(dim=1),
    "log_odds": lambda z, c: _own(z, c) - z.scatter(1, c[:, None], -torch.inf).logsumexp(dim=1),
    "log_probability": lambda z, c: _own(z.log_softmax(dim=1), c),
    "probability": lambda z, c: _own(z.softmax(dim=1), c),
}


@dataclass(frozen=True)
class Subject:
    """The model, a batch of noise and the classes that it predicts there."""

    model: Classifier
    images: Images
    targets: Targets


def subject(spec: str, count: int) -> Subject:
    """A model by its spec, and as many noise images as asked."""
    model = load(spec)
    images = torch.randn(count, *model.input_shape, generator=torch.Generator().manual_seed(0))
    return Subject(model, images, model.logits(images).argmax(dim=1))


def forward(it: Subject) -> int:
    """One forward pass."""
    with torch.no_grad():
        it.model.net(it.images)
    return 0


def floor(it: Subject) -> int:
    """One forward and three backward passes to the images: logit, centred logit, log-odds."""
    leaf = it.images.clone().requires_grad_()
    logits = it.model.net(leaf)
    for name in ("logit", "centered_logit", "log_odds"):
        start = scores.build(name).cotangent(logits.detach(), it.targets)
        torch.autograd.grad(logits, leaf, start, retain_graph=True)
    return 3


def panel(it: Subject) -> int:
    """Every single-pass method with every score, from one fresh tape; returns how many maps an image."""
    tape = Tape(it.model, Batch(tuple(str(i) for i in range(len(it.images))), it.images, it.targets))
    wanted = [scores.build(name) for name in FORMULAS]
    chosen = [methods.build(name) for name in methods.names() if methods.get(name).single_pass]
    return sum(isinstance(maps, Tensor) for method in chosen for maps in method.maps(tape, wanted))


def by_captum(it: Subject) -> Job:
    """Gradient and input x gradient for every score, one by one."""
    import captum.attr

    def run() -> int:
        for formula in FORMULAS.values():
            for kind, options in ((captum.attr.Saliency, {"abs": False}), (captum.attr.InputXGradient, {})):
                images = it.images.clone().requires_grad_()
                peer = kind(lambda x, formula=formula: formula(it.model.net(x), it.targets))
                peer.attribute(images, **options).sum(dim=1)
        return 2 * len(FORMULAS)

    return run


def by_grad_cam(it: Subject) -> Job:
    """Four class activation maps for every score, one by one; the peer also enlarges and scales each map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_grad_cam as peers
    if it.model.layer is None:
        return lambda: 0
    net: nn.Module = copy.deepcopy(it.model.net).requires_grad_(False)
    layer = net.get_submodule(it.model.layer.name).requires_grad_(True)  # the peer needs some; so few cost it least

    def run() -> int:
        for kind in CAMS:
            with getattr(peers, kind)(model=net, target_layers=[layer]) as cam:
                for formula in FORMULAS.values():
                    targets = [lambda z, c=c, formula=formula: formula(z[None], c[None])[0] for c in it.targets]
                    cam(it.images, targets)
        return len(CAMS) * len(FORMULAS)

    return run


def measure(jobs: dict[str, Job], repeats: dict[str, int]) -> tuple[dict[str, float], dict[str, int]]:
    """Median seconds and number of maps of each job, run in turn; the first round of the short ones warms up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    maps: dict[str, int] = {}
    for name in ("forward", "floor", "panel"):
        jobs[name]()
    for turn in range(max(repeats.values())):
        for name, job in jobs.items():
            if turn < repeats[name]:
                begin = time.perf_counter()
                maps[name] = job()
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}, maps


def report(seconds: dict[str, float], maps: dict[str, int]) -> bool:
    """Print the table; returns whether the panel stays within its bound."""
    print(f"{'':<22}{'seconds':>10}{'maps':>8}{'/ forward':>12}")
    for name, value in seconds.items():
        print(f"{name:<22}{value:>10.2f}{maps[name] or '':>8}{value / seconds['forward']:>12.1f}")
    ratio = seconds["panel"] / seconds["floor"]
    print(f"\npanel / forward   {seconds['panel'] / seconds['forward']:>7.2f}")
    print(f"panel / floor     {ratio:>7.2f}   (at most {BOUND})")
    peers = [name for name in seconds if name.startswith("peers")]
    if peers:
        whole = sum(seconds[name] for name in peers)
        print(f"peers / panel     {whole / seconds['panel']:>7.2f}   ({sum(maps[name] for name in peers)} maps)")
    return ratio <= BOUND


def main() -> int:
    """Parse, measure, print; exit status 1 where the panel costs more than its bound."""
    parser = argparse.ArgumentParser(description="What a panel of gradient maps costs.")
    parser.add_argument("--model", default="demo", help="as in fukusen.load")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--repeats", type=int, default=3, help="turns, of which the median counts")
    parser.add_argument("--peer-repeats", type=int, default=1, help="turns of the other packages; 0: leave them out")
    chosen = parser.parse_args()
    it = subject(chosen.model, chosen.batch)
    jobs: dict[str, Job] = {"forward": lambda: forward(it), "floor": lambda: floor(it), "panel": lambda: panel(it)}
    repeats = dict.fromkeys(jobs, chosen.repeats)
    if chosen.peer_repeats:
        jobs |= {"peers: captum": by_captum(it), "peers: grad-cam": by_grad_cam(it)}
        repeats |= dict.fromkeys([name for name in jobs if name.startswith("peers")], chosen.peer_repeats)
    seconds, maps = measure(jobs, repeats)
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} from source")
    print(f"model {chosen.model}, batch {chosen.batch}, {torch.get_num_threads()} threads, {it.model.device}")
    print(f"python {platform.python_version()}, {', '.join(versions)}\n")
    return 0 if report(seconds, maps) else 1


if __name__ == "__main__":
    raise SystemExit(main())
