"""Whether an error says that memory has run out, on whatever device, and giving back what a failed pass has left."""

from __future__ import annotations

import gc

import torch

# Torch has a class for a graphics card's memory alone; the others say it in words.
_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")


def ran_out(error: BaseException) -> bool:
    """Whether this is an error of the allocator: with fewer images at once the same pass may do.

    Example:
        >>> ran_out(RuntimeError("MPS backend out of memory")), ran_out(RuntimeError("sizes differ"))
        (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def give_back() -> None:
    """Free what hangs in circles of references since a pass failed, and the device's blocks that nobody uses."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
