"""A network as the content of a file, with what is known of it beside it, and what is read back from there."""

from __future__ import annotations

import copy
import io
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.errors import CallError, ModelError
from fukusen.models.carried import METADATA, PLACE, written
from fukusen.models.classifier import Classifier, unwrapped
from fukusen.models.reasons import reason

WEIGHTS, PROGRAM = ".safetensors", ".pt2"


@dataclass(frozen=True, eq=False)
class Content:
    """What goes into a file.

    Args:
        data: the bytes.
        net: the network that was read back from them.
    """

    data: bytes
    net: nn.Module

    def change(self, model: Classifier, images: Images) -> float:
        """How far the probabilities of what was read back are from the model's on some images (b, c, h, w), 0 to 1."""
        meant = model.probabilities(model.logits(images)).cpu()
        with torch.no_grad():
            found = unwrapped(self.net(images.clone().to(next(self.net.parameters(), images).device)))
        return float((model.probabilities(found).cpu() - meant).abs().max())


def as_weights(model: Classifier, made: str) -> Content:
    """The weights alone, as safetensors.

    Args:
        model: the model.
        made: what was done to it, in one sentence; it is kept in the file.

    Raises:
        CallError: the network keeps something else than tensors with its weights.
    """
    from safetensors.torch import load, save

    state = model.net.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise CallError(
            f"The network keeps something else than tensors with its weights ({odd[0]}), which {WEIGHTS} cannot hold. "
            f"Name a file that ends with {PROGRAM}."
        )
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    data = save(tensors, {"format": "pt", METADATA: written(model, made)})
    net = copy.deepcopy(model.net).eval()
    net.load_state_dict(load(data))
    return Content(data, net)


def as_program(model: Classifier, made: str) -> Content:
    """The whole network, as an exported program for any number of images.

    Args:
        model: the model.
        made: what was done to it, in one sentence; it is kept in the file.

    Raises:
        ModelError: the network cannot be exported.
    """
    net = copy.deepcopy(model.net).cpu().eval()
    # Of two images, or the number of images would be taken for fixed.
    sample = torch.zeros(2, *model.input_shape, dtype=model.dtype)
    kept = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(net, (sample,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
            torch.export.save(program, kept, extra_files={PLACE: written(model, made)})
            kept.seek(0)
            again = torch.export.load(kept).module()
    except Exception as error:
        raise ModelError(f"The network cannot be exported as a program: {reason(error)}.") from error
    return Content(kept.getvalue(), again)
