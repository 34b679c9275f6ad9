"""Constructions in what the network computes by which heatmaps can be bent while every prediction stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fukusen.checks.check import Sight, checks
from fukusen.models import Classifier
from fukusen.models.probes import probe_images
from fukusen.models.tracing import Given, Step, Trace, trace
from fukusen.records import Measurement, Scope, Undefined

STOP_GRADIENT = "stop_gradient"
CUSTOM_BACKWARD = "custom_backward"
HOOK = "hook"
FLAT_FUNCTION = "flat_function"
ADDED_TO_ALL = "added_to_all"
KINDS = (STOP_GRADIENT, CUSTOM_BACKWARD, HOOK, FLAT_FUNCTION, ADDED_TO_ALL)

_IMAGES = 2
_FLAT = {"floor", "ceil", "round", "trunc", "fix", "sign", "sgn", "frac", "heaviside"}
_FLAT |= {"remainder", "fmod", "floor_divide"}
_ARITHMETIC = {"add", "sub", "rsub", "mul", "div", "pow", "mm", "bmm", "addmm", "addcmul", "maximum", "minimum"}
_COMPARING = {"gt", "ge", "lt", "le"}
_LARGEST = {"max", "amax"}
# What hands on, as it is or scaled, a number that all classes share.
_PASSING = {"add", "sub", "rsub", "addmm", "baddbmm", "mul", "div", "neg", "clone", "copy", "_to_copy", "lift", "cat"}
_PASSING |= {"mean", "_adaptive_avg_pool2d", "avg_pool2d", "stack", "where", "masked_fill", "index_put", "_unsafe_view"}
_PASSING |= {"index", "index_select", "gather", "slice_scatter", "select_scatter", "constant_pad_nd"}

OPAQUE = Undefined("what the network computes cannot be followed from the image to its outputs, step by step")
SCRIPTED = Undefined("a part of the network is TorchScript, into which the steps of a forward pass cannot be followed")
IN_INTEGERS = Undefined("the network computes in integers and has no gradients that could be bent")
NO_GRADIENT = Undefined("no gradient goes back from the network's outputs to the image, so none could be followed")

LOST = Undefined(
    "numbers that depend on the image leave torch on their way (item, tolist, numpy) and were lost sight of"
)


@checks.register
@dataclass(frozen=True)
class GraphScan:
    """How many constructions the model has, by kind and module, that can bend a heatmap and leave the predictions.

    One forward pass is followed operation by operation from two images of noise to the logits. Counted is only what an
    image goes into and logits come out of: values whose gradient is stopped beside others whose is not
    (``stop_gradient``), custom autograd Functions (``custom_backward``), hooks that replace an output or meet a
    gradient (``hook``), functions that are flat almost everywhere (``flat_function``), and numbers that are added to
    the logits of all classes alike (``added_to_all``; only where that changes no prediction). Each is a reason to look,
    and none a proof. Source: viering2019manipulate, lerma2023vulnerability.
    """

    name: ClassVar[str] = "graph_scan"
    title: ClassVar[str] = "Nothing that the model computes is made to bend heatmaps"
    source: ClassVar[str] = "viering2019manipulate"
    meaning: ClassVar[str] = (
        "how many stopped gradients, custom backward passes, hooks, flat functions or numbers added to all logits, of "
        "one kind in one module, there are between the image and the outputs; 0 in an ordinary network"
    )
    scope: ClassVar[Scope] = "model"
    larger_is_worse: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({OPAQUE.reason, NO_GRADIENT.reason, LOST.reason})

    def applies(self, classifier: Classifier) -> Undefined | None:
        """To every network whose operations torch runs one by one, in numbers that have gradients."""
        if any(isinstance(module, torch.jit.ScriptModule) for module in classifier.net.modules()):
            return SCRIPTED
        return IN_INTEGERS if classifier.gradientless else None

    def measure(self, sight: Sight) -> list[Measurement]:
        """A count >= 1 for each kind and module where there is one, and 0 for each other kind that was looked for."""
        model = sight.classifier
        reason = self.applies(model)
        if reason is not None:
            return [Measurement(self.name, reason)]
        seen = trace(model, probe_images(None, model.input_shape)[:_IMAGES])
        if seen is None:
            return [Measurement(self.name, OPAQUE)]
        found = constructions(seen)
        if not model.head.shift_is_free:
            del found[ADDED_TO_ALL]
        unseen = LOST if seen.lost else None if seen.logits.live else NO_GRADIENT
        if unseen is not None and not any(found.values()):
            return [Measurement(self.name, unseen)]
        measured: list[Measurement] = []
        for kind, counts in found.items():
            measured += [Measurement(self.name, float(counts[place]), layer=place, against=kind) for place in counts]
            measured += [] if counts else [Measurement(self.name, 0.0, against=kind)]
        return measured


def constructions(seen: Trace) -> dict[str, Counter[str]]:
    """How many constructions of each kind there are in a forward pass, by module.

    Args:
        seen: the forward pass.

    Returns:
        For each of ``KINDS``, from the name of a module to a count >= 1.
    """
    reaching = _reaching(seen)
    replaced = (module for module, steps in seen.replaced if reaching.intersection(steps))
    return {
        STOP_GRADIENT: Counter(_stopped(seen, reaching)),
        CUSTOM_BACKWARD: Counter(seen.custom),
        HOOK: Counter([*dict.fromkeys(replaced), *seen.backward_hooks]),
        FLAT_FUNCTION: Counter(_flat(seen.steps, reaching)),
        ADDED_TO_ALL: Counter(_added(seen)),
    }


def _reaching(seen: Trace) -> set[int]:
    """The steps whose numbers reach the logits as numbers, not as a place or a condition."""
    found: set[int] = set()
    waiting = [seen.logits.step]
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            is_selection = seen.steps[number].name not in _ARITHMETIC
            given = seen.steps[number].given
            mixed = any(one.is_float for one in given)
            waiting += [one.step for one in given if one.is_float or not (mixed and is_selection)]
    return found


def _stopped(seen: Trace, reaching: set[int]) -> Iterable[str]:
    """The module of each step that takes in a value whose gradient was stopped on its way, while others' are not."""
    able = [True]
    for number, step in enumerate(seen.steps[1:], 1):
        goes_on = False
        for one in step.given:
            if not (one.is_float and able[one.step]):
                continue
            if not step.recorded or one.live:
                goes_on = True
            elif seen.logits.live and step.is_float and number in reaching and not _steadies(seen.steps, step, one):
                yield step.module
        able.append(goes_on and step.is_float)


def _steadies(steps: Sequence[Step], step: Step, stopped: Given) -> bool:
    """Whether it is the largest of the numbers that it is taken away from, as where a softmax is written by hand."""
    source = steps[stopped.step]
    others = {one.step for one in step.given if one is not stopped}
    return step.name == "sub" and source.name in _LARGEST and others == {one.step for one in source.given}


def _flat(steps: Sequence[Step], reaching: set[int]) -> Iterable[str]:
    """The module of each step whose numbers move in leaps only."""
    gates = _gates(steps)
    for number in sorted(reaching - gates - {0}):
        step = steps[number]
        if not step.is_float or not step.given:
            continue
        is_number = step.name in _ARITHMETIC or not any(one.is_float for one in step.given)
        leaping = any(not one.is_float and one.step not in gates for one in step.given)
        if step.name in _FLAT or "quantize" in step.name or (is_number and leaping):
            yield step.module


def _gates(steps: Sequence[Step]) -> set[int]:
    """Comparisons, and what turns them to numbers, that only let pass or stop the very numbers that they compare."""
    found: set[int] = set()
    for step in steps:
        for mask in step.given if step.name == "mul" else ():
            chain = [mask.step]
            if steps[mask.step].name == "_to_copy":
                chain.append(steps[mask.step].given[0].step)
            compared = steps[chain[-1]]
            others = {one.step for one in step.given if one is not mask}
            if compared.name in _COMPARING and others == {one.step for one in compared.given}:
                found.update(chain)
    return found


def _added(seen: Trace) -> Iterable[str]:
    """The module of each step that adds to all logits alike, followed back from the logits as far as such sums go."""
    done: set[int] = set()
    waiting = [seen.logits.step]
    while waiting:
        number = waiting.pop()
        step = seen.steps[number]
        if number in done or step.name not in _PASSING:
            continue
        done.add(number)
        waiting += [one.step for one in step.given if one.is_float and not one.same]
        if any(one.same for one in step.given):
            yield step.module
