"""The measurements of an audit, ready to be asked for by what they are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from fukusen.records import Measurement, Undefined

Numbers = dict[str, float]


class Evidence:
    """Measurements by check and place; only numbers are handed out, reasons on request.

    Args:
        measurements: everything measured under one plan.
    """

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._by_check: dict[str, list[Measurement]] = defaultdict(list)
        for measurement in measurements:
            self._by_check[measurement.check].append(measurement)
        self._indexed: dict[tuple[str, ...], dict[tuple[str | None, ...], list[Measurement]]] = {}

    def of(self, check: str, **about: str | None) -> list[Measurement]:
        """The measurements of a check whose fields are as given."""
        fields = tuple(sorted(about))
        index = self._indexed.get((check, *fields))
        if index is None:
            index = self._indexed[check, *fields] = defaultdict(list)
            for one in self._by_check[check]:
                index[tuple(getattr(one, field) for field in fields)].append(one)
        return list(index.get(tuple(about[field] for field in fields), ()))

    def numbers(self, check: str, **about: str | None) -> Numbers:
        """The numbers of such measurements, by item ("" for the model)."""
        return {one.item or "": one.value for one in self.of(check, **about) if not isinstance(one.value, Undefined)}

    def by(self, check: str, *fields: str) -> dict[tuple[str, ...], Numbers]:
        """The numbers of a check in groups that agree in these fields ("" for none), in order of appearance."""
        groups: dict[tuple[str, ...], Numbers] = defaultdict(dict)
        for one in self._by_check[check]:
            if not isinstance(one.value, Undefined):
                groups[tuple(getattr(one, field) or "" for field in fields)][one.item or ""] = one.value
        return dict(groups)

    def reasons(self, check: str) -> list[str]:
        """Why there are no numbers, each reason once."""
        undefined = (one.value.reason for one in self._by_check[check] if isinstance(one.value, Undefined))
        return list(dict.fromkeys(undefined))

    def values(self, check: str, field: str) -> list[str]:
        """The different values of a field among a check's measurements, in order of appearance."""
        return [str(value) for value in dict.fromkeys(getattr(one, field) for one in self._by_check[check]) if value]


def middle(numbers: Numbers) -> float | None:
    """The median, or None where there is no number."""
    return median(numbers.values()) if numbers else None
