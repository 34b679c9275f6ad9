"""What an attack is, and how the promise of its twin is checked."""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Images, Maps, Scales, Targets
from fukusen.attacks.pixels import pixels_of
from fukusen.errors import CallError
from fukusen.models import Classifier
from fukusen.registry import Registry
from fukusen.twins import AlteredImages, Progress, Twin, measured, twin_of

Family = Literal["logits", "value", "weights", "training", "inputs"]
Track = Literal["inner", "outer"]
Picture = Float[Tensor, "h w"]


@runtime_checkable
class Attack(Protocol):
    """A way to redraw heatmaps; a frozen dataclass whose fields are its parameters.

    ``family``: what is changed: a number added to all ``logits``, a ``value`` whose gradient lies, the ``weights`` with
    the function kept, the weights by ``training``, or the ``inputs``. ``threat``: who could do this and how, in one
    sentence. ``track`` and ``fools``: whose maps it should redraw, and in which scores. ``tolerance``: the largest
    change of a probability that it promises.

    Every attack is a ``ModelAttack`` or an ``ImageAttack``. Facts given only where they differ from the usual:
    ``flips_allowed``, the share of predicted classes that may change (0); ``needs_images = True`` where the attacker
    works on images like the user's, which noise cannot stand for; ``goal(height, width)``, where the attacker wants
    maps to be hot, see `goal_of`; what `Aiming` has, where the attack measures itself how far it came.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    family: ClassVar[Family]
    threat: ClassVar[str]
    track: ClassVar[Track]
    fools: ClassVar[tuple[str, ...]]
    tolerance: ClassVar[float]


@runtime_checkable
class ModelAttack(Attack, Protocol):
    """An attack that changes the model."""

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:
        """A changed copy; the model given is not touched.

        Args:
            model: the model.
            images: preprocessed images that the attacker has, shape (b, c, h, w); most attacks need none.
            progress: called with (done, total, phase) where it takes long.
        """
        ...


@runtime_checkable
class ImageAttack(Attack, Protocol):
    """An attack that changes the images. ``budget`` is how far any pixel may move, in 255ths of its range."""

    budget: float

    def altered(self, model: Classifier, images: Images, targets: Targets, progress: Progress | None = None) -> Images:
        """Changed copies of the images (b, c, h, w), for the predicted classes ``targets`` (b,)."""
        ...


@runtime_checkable
class Aiming(Attack, Protocol):
    """An attack that says itself how far it came, of which more than "other maps" can be asked."""

    @property
    def bends(self) -> str:
        """The method whose maps it is after."""
        ...

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores whose maps it is after."""
        ...

    @property
    def enough(self) -> float:
        """How far the maps should move."""
        ...

    def reached(self, maps: Maps, before: Maps) -> Scales:
        """How far the maps (b, h, w) of one score are where it wants them, 0 to 1, shape (b,)."""
        ...


attacks: Registry[Attack] = Registry("attack")


def goal_of(attack: Attack, height: int, width: int) -> Picture | None:
    """Where the attacker wants maps of this many cells to be hot: 0 to 1, shape (h, w); None where nowhere special."""
    goal = getattr(attack, "goal", None)
    return None if goal is None else goal(height, width)


def needs_images(attack: Attack | type[Attack]) -> bool:
    """Whether the attack works on images like the user's, which noise cannot stand for."""
    return bool(getattr(attack, "needs_images", False)) or isinstance(attack, ImageAttack)


def verified(
    attack: Attack, model: Classifier, images: Images, progress: Progress | None = None
) -> Twin | AlteredImages:
    """What the attack makes of the model or of the images, with its promise measured.

    Args:
        attack: what to do.
        model: the model, left as it is.
        images: preprocessed images, given to the attack and to measure the promise on, shape (b, c, h, w).
        progress: called with (done, total, phase) where it takes long.

    Returns:
        The twin, or the altered images; ``promise.kept`` says whether the predictions are the model's.
    """
    images = images.to(model.device, model.dtype)
    flips = float(getattr(attack, "flips_allowed", 0.0))
    if isinstance(attack, ModelAttack):
        return twin_of(model, attack.twin(model, images, progress), images, attack.tolerance, flips)
    if not isinstance(attack, ImageAttack):
        raise CallError(f"The attack {attack.name!r} has neither a method 'twin' nor 'altered' and a 'budget'.")
    changed = attack.altered(model, images, model.logits(images).argmax(dim=1), progress)
    promise = measured((model, images), (model, changed), attack.tolerance, flips)
    budget = float(attack.budget * pixels_of(model, images).level.max())
    return AlteredImages(changed, float((changed - images).abs().max()), budget, promise)
