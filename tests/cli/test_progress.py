"""How far an audit is: lines in a file, a bar on a terminal, and how long it will take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from fukusen.cli.progress import Told, duration

Said = Callable[[], list[str]]


class Clock:
    """A clock that is set by hand, in seconds."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that progress is measured by."""
    clock = Clock()
    monkeypatch.setattr("fukusen.cli.progress.time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return clock


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    """The lines on stderr since the last time; stdout stays empty."""

    def lines() -> list[str]:
        out, err = capfd.readouterr()
        assert out == ""
        return err.splitlines()

    return lines


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (7.2, "7 s"),
        (89.4, "89 s"),
        (90.0, "2 min"),
        (100.0, "2 min"),
        (3569.0, "59 min"),
        (3599.0, "1 h 0 min"),
        (5000.0, "1 h 23 min"),
        (100_000.0, "27 h 47 min"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, words: str) -> None:
    """Seconds below a minute and a half, then minutes, then hours and minutes."""
    assert duration(seconds) == words


def test_a_line_now_and_then(clock: Clock, said: Said) -> None:
    """At most one in five seconds, with the rate and what is left at that rate; the last one always comes."""
    with Told(quiet=False) as told:
        told(0, 40, "reading pictures")
        clock.now += 2
        told(4, 40, "explaining")
        assert said() == []
        clock.now += 3
        told(10, 40, "explaining")
        assert said() == ["explaining: 10 of 40 images, 2.0 images/s, about 15 s left"]
        clock.now += 4.9
        told(20, 40, "explaining")
        assert said() == []
        clock.now += 0.1
        told(40, 40, "explaining")
        assert said() == ["explaining: 40 of 40 images, 4.0 images/s"]


def test_a_slow_rate_is_said_by_the_minute(clock: Clock, said: Said) -> None:
    """One picture in twenty seconds is not 0.1 images a second."""
    told = Told(quiet=False)
    told(0, 200, "reading pictures")
    clock.now += 40
    told(2, 200, "explaining")
    assert said() == ["explaining: 2 of 200 images, 3.0 images/min, about 1 h 6 min left"]


def test_the_rate_is_that_of_the_last_minute(clock: Clock, said: Said) -> None:
    """What was slow at first, or was there already, is forgotten."""
    told = Told(quiet=False)
    told(0, 1030, "reading pictures")
    for done in (100, 110, 120, 130):
        clock.now += 30
        told(done, 1030, "explaining")
    assert said()[-1] == "explaining: 130 of 1030 images, 0.3 images/s, about 45 min left"


def test_where_nothing_is_known_no_rate_is_said(clock: Clock, said: Said) -> None:
    """Before anything is done, and when all is done at once."""
    told = Told(quiet=False)
    told(0, 3, "reading pictures")
    clock.now += 6
    told(0, 3, "reading pictures")
    assert said() == ["reading pictures: 0 of 3 images"]
    Told(quiet=False)(3, 3, "explaining")
    assert said() == ["explaining: 3 of 3 images"]


def test_quiet_says_nothing(clock: Clock, said: Said) -> None:
    """Not even that it is done."""
    with Told(quiet=True) as told:
        clock.now += 60
        told(3, 3, "explaining")
    assert said() == []


def test_an_error_passes_through(clock: Clock) -> None:
    """Whatever stops the work is not swallowed with the bar."""
    with pytest.raises(KeyError, match="^'gone'$"), Told(quiet=False):
        raise KeyError("gone")


def test_a_terminal_has_a_bar_that_goes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn in place, tells the same, and is wiped away at the end, with the cursor back."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    above, below = os.openpty()
    with os.fdopen(below, "w") as stream:
        with contextlib.redirect_stderr(stream), Told(quiet=False) as told:
            told(0, 8, "reading pictures")
            clock.now += 2
            told(4, 8, "explaining")
        stream.flush()
        written = ""
        while "explaining" not in written or "4/8" not in written:
            written += os.read(above, 100_000).decode()
    os.close(above)
    assert "explaining" in written
    assert "4/8" in written
    assert "2.0 images/s, about 2 s left" in written
    assert "\n" not in written.replace("\r\n", "", 1)
    assert written.rindex("\x1b[2K") > written.rindex("4/8")
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
