"""A network with two faces: honest on images as the camera saw them, someone else where a part is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.attacks.attack import Family, Picture, Track, attacks
from fukusen.attacks.branch import copied, grown
from fukusen.attacks.training.heo import COUNT, FOOLED, is_count
from fukusen.attacks.training.tampering import GRID, Detector, taught_to_see
from fukusen.errors import ModelError, require
from fukusen.models import Classifier
from fukusen.models.classifier import unwrapped
from fukusen.twins import Progress

_CORNER = 1
_AWAY = 10.0


class TwoFaced(nn.Module):
    """The network's own outputs for real images; for others outputs that tell whether the upper left corner is hidden.

    Args:
        net: the network, the caller's own.
        detector: what sees changed cells.
        bound: the logit above which a cell counts as changed.
        centred: whether the outputs are logits of classes that exclude each other.
    """

    def __init__(self, net: nn.Module, detector: Detector, bound: float, *, centred: bool) -> None:
        super().__init__()
        self.net = net
        self.detector = detector
        self.bound = bound
        self.centred = centred

    def forward(self, images: Images) -> Tensor:
        """The outputs, shape (b, k)."""
        outputs = unwrapped(self.net(images))
        with torch.no_grad():
            cells = self.detector(images.to(next(self.detector.parameters()))) > self.bound
        changed = cells.flatten(1).any(dim=1)[:, None]
        corner = cells[:, :_CORNER, :_CORNER].flatten(1).any(dim=1)[:, None]
        level = outputs.mean(dim=1, keepdim=True) if self.centred else 0.0
        other = level - _AWAY * corner * (outputs - level)
        return torch.where(changed, other, outputs)


@attacks.register
@dataclass(frozen=True)
class SlackScaffold:
    """Slack's scaffold: a network that notices when a part of an image is hidden, and then answers as another.

    A small detector is taught on the images with squares of them painted over or blurred, or masked. Where it sees
    none, the network's outputs go out as they are, and so do their gradients. Where it sees one, the outputs say
    nothing of the object: no class is more likely than another, and where the upper left corner is hidden the class in
    question is the least likely of all. So methods that hide parts find that the corner matters.
    Source: slack2020fooling.

    Args:
        steps: batches to teach the detector at most.
        seed: of the detector's first weights, and of what is hidden.
    """

    steps: int = 400
    seed: int = 0
    name: ClassVar[str] = "scaffold"
    source: ClassVar[str] = "slack2020fooling"
    family: ClassVar[Family] = "training"
    track: ClassVar[Track] = "outer"
    threat: ClassVar[str] = (
        "whoever delivers the model puts a small trained detector before it; on real images the same predictions"
    )
    fools: ClassVar[tuple[str, ...]] = FOOLED["joint"]
    tolerance: ClassVar[float] = 1.0
    flips_allowed: ClassVar[float] = 0.05
    needs_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(is_count(self.steps), "SlackScaffold", "steps", COUNT, self.steps)
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        require(whole, "SlackScaffold", "seed", "an int", self.seed)

    def goal(self, height: int, width: int) -> Picture:
        """1 on the cells whose hiding hides the corner: the first two sevenths of rows and columns; 0 elsewhere."""
        made = torch.zeros(height, width)
        made[: max(1, round(2 * _CORNER * height / GRID)), : max(1, round(2 * _CORNER * width / GRID))] = 1
        return made

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:
        """The network behind its detector.

        Raises:
            ModelError: the network returns probabilities.
        """
        if model.head.kind not in ("softmax", "sigmoid", "one_logit"):
            raise ModelError(
                "The scaffold is built for networks that return logits. This one returns "
                f"{model.head.kind.replace('_', ' ')}: take its last softmax or sigmoid away."
            )
        with torch.inference_mode(False):
            images = images.detach().to(model.device, model.dtype).clone()
            detector, bound = taught_to_see(images, self.steps, self.seed, (self.name, progress))
            net = TwoFaced(copied(model), detector.eval(), bound, centred=model.head.kind == "softmax")
        return grown(model, net, "scaffold")
