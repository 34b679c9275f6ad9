"""The words of the pages, kept apart from the pages so that they can be translated."""

from __future__ import annotations

import tomllib
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EN DASH}"
# JSON writes 1.0 as 1 in other hands, so a number may be either.
Number = int | float
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@cache
def _table(language: str) -> dict[str, Any]:
    return tomllib.loads(files("fukusen.view").joinpath("locale", f"{language}.toml").read_text("utf-8"))


class Words:
    """The words of one language.

    Args:
        language: its code, the name of a file in ``locale/``.

    Example:
        >>> Words()("count.images", n=2)
        '2 images'
    """

    def __init__(self, language: str = "en") -> None:
        self._words = _table(language)

    def __call__(self, key: str, /, **values: object) -> str:
        """The text of a key such as ``"page.title"``, with its gaps filled in.

        Args:
            key: where the text stands in the locale file.
            values: what fills its gaps; ``n`` also chooses between singular and plural.
        """
        text = self.table(key)
        if isinstance(text, dict):
            text = text["one" if values["n"] == 1 else "other"]
        filled: str = text.format(**values)
        return filled

    def table(self, key: str) -> Any:
        """What stands under a key: a text, or a table of texts."""
        found: Any = self._words
        for step in key.split("."):
            found = found[step]
        return found

    def name(self, kind: str, name: str) -> str:
        """How people write the name of a registered thing.

        Args:
            kind: ``methods``, ``scores``, ``families``, ``tracks`` or ``heads``.
            name: the registered name, with parameters, with a layer behind an @, or with neither.

        Returns:
            The usual writing where the locale has one, else the name with spaces.

        Example:
            >>> Words().name("methods", "occlusion(grid=3)"), Words().name("methods", "my_cam")
            ('Occlusion (grid=3)', 'my cam')
            >>> Words().name("methods", "grad_cam@layer_3")
            'Grad-CAM @ layer_3'
        """
        base, mark, rest = name.partition("@") if "@" in name else name.partition("(")
        usual: str = self.table(kind).get(base, base.replace("_", " "))
        return f"{usual} {mark} {rest}" if mark == "@" else f"{usual} {mark}{rest}".strip()

    def listing(self, parts: list[str]) -> str:
        """Several things in one line."""
        return str(self.table("comma")).join(parts)


def number(value: Number | None) -> str:
    """A measured number with three digits, for people; whole numbers with all of theirs, a dash for None.

    Example:
        >>> number(0.12345), number(1234567)
        ('0.123', '1,234,567')
    """
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        whole = abs(value) >= 100 or value == int(value)
        text = f"{value:,.0f}" if whole else f"{value:.3g}"
    else:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{float(mantissa):g} {TIMES} 10{str(int(exponent)).translate(_RAISED)}"
    return text.replace("-", MINUS)


def moment(iso: str) -> str:
    """A date and time of day, to the minute.

    Example:
        >>> moment("2026-11-23T09:15:07+00:00")
        '2026-11-23 09:15 UTC'
    """
    time = datetime.fromisoformat(iso)
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()


def percent(share: Number) -> str:
    """A share as a percentage, never rounded to a certainty that was not measured.

    Example:
        >>> percent(0.934), percent(0.9999), percent(1.0), percent(0.0001)
        ('93%', '> 99%', '100%', '< 1%')
    """
    if 0.995 <= share < 1:
        return "> 99%"
    return "< 1%" if 0 < share < 0.005 else f"{share:.0%}"
