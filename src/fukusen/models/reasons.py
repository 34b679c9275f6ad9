"""Why code or a file that is not ours failed, in one line."""

from __future__ import annotations

_LONGEST = 240


def reason(error: BaseException) -> str:
    r"""The error's own text on one line without a full stop, cut where it is long; its kind where it has no text.

    Example:
        >>> reason(ValueError("too small.\n  by two."))
        'too small. by two'
        >>> reason(EOFError())
        'EOFError'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".") if len(text) <= _LONGEST else text[:_LONGEST].rsplit(" ", 1)[0] + " ..."
