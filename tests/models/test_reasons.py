"""Other people's errors in one line."""

from __future__ import annotations

from fukusen.models.reasons import reason


def test_lines_are_joined() -> None:
    assert reason(RuntimeError("Error(s) in loading:\n\tMissing key\n")) == "Error(s) in loading: Missing key"


def test_an_error_without_text_gives_its_kind() -> None:
    assert reason(EOFError()) == "EOFError"


def test_long_texts_are_cut_between_words() -> None:
    text = reason(RuntimeError("word " * 100))
    assert len(text) < 250
    assert text.endswith("word ...")
