"""What a panel of single-pass maps costs, against the passes that it cannot do without and against other packages.

One run measures, in one process and in turn, so that a busy machine slows all of them alike:

- ``forward``: one forward pass of the model as given, without a graph;
- ``floor``: one forward and three backward passes of the model as given to the images, in plain torch;
- ``engine floor``: the same passes of the engine's copy of it;
- ``panel as given``, ``panel``: every method that needs no passes but the tape's, with all five scores, from a fresh
  tape, through the network as given and through the engine;
- ``cam``, ``gradient``: what the methods of a family add to a tape that has made its passes;
- ``guided``: the methods that go back through the network by a rule of their own, in the engine;
- ``peers``: the panel's maps one by one, from captum (gradients) and pytorch-grad-cam (class activation maps), on the
  model as given, whose weights' gradients pytorch-grad-cam computes with each map; ``--frozen`` spares it those.

Peak memory is measured in processes of their own: the panel with its engine and the preparing of it, and one single
Grad-CAM map an image by pytorch-grad-cam. Printed are medians and ratios, never a promise about another machine:

    python benchmarks/panel_cost.py --batch 16 --repeats 3 --model demo --model resnet18 --model vit_tiny
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Images, Targets
from fukusen.methods import methods
from fukusen.models import Classifier, load, wrap
from fukusen.models.engine import Engine, prepared
from fukusen.scores import scores
from fukusen.tape import Tape

Job = Callable[[], int]
Formula = Callable[[Tensor, Tensor], Tensor]
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
# By model: the most that the panel may cost of the floor, and how many times faster than the peers it must be.
BOUNDS = {"demo": (0.6, 50), "resnet18": (1.0, 20), "vit_tiny": (1.1, 20)}
MEMORY_BOUND = 1.5
PEERS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "x_grad_cam": "XGradCAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "eigen_cam": "EigenCAM",
    "eigen_grad_cam": "EigenGradCAM",
    "finer_cam": "FinerCAM",
    "gradient": "Saliency",
    "input_x_gradient": "InputXGradient",
}
GUIDED = ("guided_backprop", "guided_grad_cam")
PACKAGES = ("fukusen", "torch", "captum", "grad-cam", "timm", "torchvision")


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
    """The model, its engine, a batch of noise and the classes that it predicts there."""

    model: Classifier
    engine: Classifier
    note: str
    images: Images
    targets: Targets

    def tape(self, model: Classifier) -> Tape:
        return Tape(model, Batch(tuple(str(i) for i in range(len(self.images))), self.images, self.targets))


def model_of(name: str) -> Classifier:
    """A model by its name; two of them with random weights, which cost what trained ones do."""
    torch.manual_seed(0)
    if name == "resnet18":
        from torchvision.models import resnet18

        return wrap(resnet18(weights=None).eval(), input_size=(3, 224, 224), head="softmax")
    if name == "vit_tiny":
        import timm

        return wrap(timm.create_model("vit_tiny_patch16_224").eval(), input_size=(3, 224, 224), head="softmax")
    return load(name)


def subject(name: str, count: int) -> Subject:
    """A model, its engine, and as many noise images as asked."""
    model = model_of(name)
    images = torch.randn(count, *model.input_shape, generator=torch.Generator().manual_seed(0))
    made = prepared(model, images)
    return Subject(model, made.model, made.note, images, model.logits(images).argmax(dim=1))


def forward(it: Subject) -> int:
    """One forward pass."""
    with torch.no_grad():
        it.model.net(it.images)
    return 0


def floor(it: Subject, net: nn.Module) -> int:
    """One forward and three backward passes to the images: logit, centred logit, log-odds."""
    leaf = it.images.clone().requires_grad_()
    logits = net(leaf)
    for name in ("logit", "centered_logit", "log_odds"):
        start = scores.build(name).cotangent(logits.detach(), it.targets)
        torch.autograd.grad(logits, leaf, start, retain_graph=True)
    return 0


def maps_of(tape: Tape, names: list[str]) -> int:
    """The maps of some methods in all scores; returns how many an image."""
    wanted = [scores.build(name) for name in FORMULAS]
    found = [maps for name in names for maps in methods.build(name).maps(tape, wanted)]
    return sum(isinstance(maps, Tensor) for maps in found)


def on_the_tape() -> list[str]:
    """The methods that need no passes but the tape's own."""
    return [name for name in methods.names() if methods.get(name).single_pass and name not in GUIDED]


def added(it: Subject, family: str) -> tuple[Job, Callable[[], None]]:
    """What a family's maps cost on a tape that has made its passes; the second makes such a tape, off the clock."""
    tapes: list[Tape] = []
    names = [name for name in on_the_tape() if methods.get(name).family == family]

    def ready() -> None:
        tapes[:] = [it.tape(it.engine)]
        for name in FORMULAS:
            tapes[0].gradient(scores.build(name), at="input")

    return lambda: maps_of(tapes[0], names), ready


def _tokens(it: Subject) -> Callable[[Tensor], Tensor] | None:
    layer = it.model.layer
    return None if layer is None or layer.layout == "channels_first" else layer.channels_first


def by_peer(it: Subject, name: str, chosen: list[str], *, frozen: bool = False) -> Job:
    """A method's maps from the package that has it, one score after the other; on the model as given, or frozen."""
    if name in ("gradient", "input_x_gradient"):
        return by_captum(it, PEERS[name], chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_grad_cam as peers
    if it.model.layer is None:
        return lambda: 0
    net: nn.Module = copy.deepcopy(it.model.net).requires_grad_(not frozen)
    layer = net.get_submodule(it.model.layer.name).requires_grad_(True)  # the peer needs some

    def run() -> int:
        with getattr(peers, PEERS[name])(model=net, target_layers=[layer], reshape_transform=_tokens(it)) as cam:
            for score in chosen:
                formula = FORMULAS[score]
                targets = [lambda z, c=c, formula=formula: formula(z[None], c[None])[0] for c in it.targets]
                cam(it.images, None if name == "finer_cam" else targets)
        return len(chosen)

    return run


def by_captum(it: Subject, kind: str, chosen: list[str]) -> Job:
    """Gradient or input x gradient, one score after the other."""
    import captum.attr

    def run() -> int:
        for score in chosen:
            images = it.images.clone().requires_grad_()
            peer = getattr(captum.attr, kind)(lambda x, score=score: FORMULAS[score](it.model.net(x), it.targets))
            peer.attribute(images, **({"abs": False} if kind == "Saliency" else {})).sum(dim=1)
        return len(chosen)

    return run


def jobs_of(it: Subject, peer_scores: int, *, frozen: bool) -> dict[str, tuple[Job, Callable[[], None]]]:
    """What is measured, by name, each with what has to be done before and off the clock."""

    def idle() -> None:
        pass

    fast = it.engine.fast.net if isinstance(it.engine, Engine) else it.engine.net
    found: dict[str, tuple[Job, Callable[[], None]]] = {
        "forward": (lambda: forward(it), idle),
        "floor": (lambda: floor(it, it.model.net), idle),
        "engine floor": (lambda: floor(it, fast), idle),
        "panel as given": (lambda: maps_of(it.tape(it.model), on_the_tape()), idle),
        "panel": (lambda: maps_of(it.tape(it.engine), on_the_tape()), idle),
        "  of that, cam": added(it, "cam"),
        "  of that, gradient": added(it, "gradient"),
        "guided": (lambda: maps_of(it.tape(it.engine), list(GUIDED)), idle),
    }
    chosen = list(FORMULAS)[:peer_scores]
    peers = {f"peer: {name}": (by_peer(it, name, chosen, frozen=frozen), idle) for name in PEERS if peer_scores}
    return found | peers


def measure(it: Subject, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, int]]:
    """Median seconds and number of maps of each job, run in turn; the first round of ours warms up."""
    jobs, clock = jobs_of(it, options.peer_scores, frozen=options.frozen), CLOCKS[options.clock]
    times: dict[str, list[float]] = {name: [] for name in jobs}
    maps: dict[str, int] = {}
    for turn in range(-1, options.repeats):
        for name, (job, ready) in jobs.items():
            if name.startswith("peer") and turn != 0:
                continue
            ready()
            begin = clock()
            maps[name] = job()
            if turn >= 0:
                times[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in times.items()}, maps


def _judged(what: str, value: float, bound: float, *, most: bool) -> bool:
    kept = value <= bound if most else value >= bound
    print(f"{what:<26}{value:>8.2f}   ({'at most' if most else 'at least'} {bound}: {'kept' if kept else 'MISSED'})")
    return kept


def report(name: str, seconds: dict[str, float], maps: dict[str, int], peer_scores: int) -> bool:
    """Print the table; returns whether the panel stays within its bounds."""
    print(f"{'':<26}{'seconds':>10}{'maps':>8}{'/ floor':>10}")
    for job, value in seconds.items():
        print(f"{job:<26}{value:>10.2f}{maps[job] or '':>8}{value / seconds['floor']:>10.2f}")
    print(f"\n{'engine floor / floor':<26}{seconds['engine floor'] / seconds['floor']:>8.2f}")
    print(f"{'panel as given / floor':<26}{seconds['panel as given'] / seconds['floor']:>8.2f}")
    most, least = BOUNDS.get(name, (1.1, 20))
    kept = _judged("panel / floor", seconds["panel"] / seconds["floor"], most, most=True)
    peers = [job for job in seconds if job.startswith("peer")]
    if peers:
        whole = sum(seconds[job] for job in peers) * len(FORMULAS) / peer_scores
        kept &= _judged("peers / panel", whole / seconds["panel"], least, most=False)
        if peer_scores < len(FORMULAS):
            share = f"{peer_scores} of {len(FORMULAS)}"
            print(f"  peers were run in {share} scores; their time was taken as if in all")
    return kept


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def peak(job: Job) -> float:
    """The most resident memory above what there was before, in MiB, looked at every 2 ms while the job runs."""
    before, most, done = _resident(), [0], threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], _resident())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        job()
    finally:
        done.set()
        watcher.join()
    return (most[0] - before) / 2**20


def memory(name: str, count: int, what: str) -> float:
    """Peak memory of one job on a model that has run one image before, in a process of its own."""
    model = model_of(name)
    images = torch.randn(count, *model.input_shape, generator=torch.Generator().manual_seed(0))
    targets = model.logits(images[:1]).argmax(dim=1).expand(count)
    it = Subject(model, model, "", images, targets)
    if what == "peer":
        return peak(by_peer(it, "grad_cam", ["logit"]))
    return peak(lambda: maps_of(it.tape(prepared(model, images).model), on_the_tape()))


def report_memory(name: str, count: int) -> bool:
    """Print the peaks of a panel and of a peer's single map; returns whether the bound is kept."""
    found = {}
    for what in ("panel", "peer"):
        told = [sys.executable, __file__, "--model", name, "--batch", str(count), "--memory-of", what]
        found[what] = float(subprocess.run(told, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    print(f"memory: panel with its engine {found['panel']:.0f} MiB, one map by a peer {found['peer']:.0f} MiB")
    return _judged("panel / peer's one map", found["panel"] / found["peer"], MEMORY_BOUND, most=True)


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} from source")
    return ", ".join(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a panel of single-pass maps costs.")
    parser.add_argument("--model", action="append", help="demo, resnet18, vit_tiny, or as in fukusen.load; repeatable")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--repeats", type=int, default=3, help="turns, of which the median counts")
    parser.add_argument("--peer-scores", type=int, default=5, help="scores that peers are run in; 0: leave them out")
    parser.add_argument("--frozen", action="store_true", help="freeze all weights but the layer's for the peers")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: steadier where others use the machine")
    parser.add_argument("--no-memory", action="store_true", help="leave the peaks of memory out")
    parser.add_argument("--memory-of", choices=("panel", "peer"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Parse, measure, print; exit status 1 where a bound is missed."""
    options = _options()
    names = options.model or list(BOUNDS)
    if options.memory_of:
        print(memory(names[0], options.batch, options.memory_of))
        return 0
    print(f"python {platform.python_version()}, {_versions()}")
    print(f"batch {options.batch}, {torch.get_num_threads()} threads, {options.clock} clock, methods on the tape:")
    print(f"  {', '.join(on_the_tape())}")
    kept = True
    for name in names:
        it = subject(name, options.batch)
        print(f"\n{name} on {it.model.device}, maps at {it.model.layer}\n{it.note}\n")
        kept &= report(name, *measure(it, options), options.peer_scores)
        del it
        kept &= options.no_memory or report_memory(name, options.batch)
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
