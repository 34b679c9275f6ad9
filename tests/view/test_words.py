"""Numbers and names as people write them."""

import pytest

from fukusen.view.words import Words, moment, number, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0"),
        (1.0, "1"),
        (0.12345, "0.123"),
        (-0.5, "\N{MINUS SIGN}0.5"),
        (99.96, "100"),
        (999.7, "1,000"),
        (4_652_008, "4,652,008"),
        (-3, "\N{MINUS SIGN}3"),
        (2.5e-7, "2.5 \N{MULTIPLICATION SIGN} 10⁻⁷"),
        (-1.234e9, "\N{MINUS SIGN}1.23 \N{MULTIPLICATION SIGN} 10⁹"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0%"), (1e-6, "< 1%"), (0.934, "93%"), (0.9949, "99%"), (0.9999, "> 99%"), (1.0, "100%")]
)
def test_percent_claims_no_certainty_that_was_not_measured(share: float, text: str) -> None:
    assert percent(share) == text


def test_moment() -> None:
    assert moment("2026-11-23T09:15:07+00:00") == "2026-11-23 09:15 UTC"
    assert moment("2026-11-23T09:15:07+09:00") == "2026-11-23 09:15 UTC+09:00"
    assert moment("2026-11-23T09:15:07") == "2026-11-23 09:15"


def test_plural_and_singular() -> None:
    words = Words()
    assert [words("count.images", n=count) for count in (0, 1, 1200)] == ["0 images", "1 image", "1,200 images"]


def test_what_is_filled_in_is_not_read_as_a_gap() -> None:
    assert Words()("page.heading", model="{n} {0} {") == "Heatmap audit of {n} {0} {"


def test_names_that_nobody_translated_are_shown_as_they_are() -> None:
    words = Words()
    assert words.name("methods", "grad_cam") == "Grad-CAM"
    assert words.name("methods", "occlusion(grid=7)") == "Occlusion (grid=7)"
    assert words.name("scores", "third_party_score") == "third party score"
