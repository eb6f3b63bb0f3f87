"""What long work shows: bars in a terminal, lines in a log, nothing of either on stdout."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys

import pytest

from deepmmsearch.cli.bars import Bars, span
from deepmmsearch.console import Console
from deepmmsearch.progress import Step, silent, tracked


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(seconds: float, *, terminal: bool) -> str:
    """400 rows, each of which takes so long, as they are shown."""
    clock, file = Clock(), io.StringIO()
    with Bars(Console(file=file, force_terminal=terminal, width=100), clock) as bars:
        for done in range(401):
            clock.now = done * seconds
            bars(Step("agent", done, 400, "93 % right" if done else ""))
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def test_a_log_gets_a_line_at_once_now_and_then_and_at_the_end() -> None:
    lines = watched(0.25, terminal=False).splitlines()
    assert lines[0] == "agent: 0 of 400"
    assert lines[1:] == [
        "agent: 120 of 400, 4.0/s, 1:10 left, 93 % right",
        "agent: 240 of 400, 4.0/s, 0:40 left, 93 % right",
        "agent: 360 of 400, 4.0/s, 0:10 left, 93 % right",
        "agent: 400 of 400, 4.0/s, 1:40 in all, 93 % right",
    ]


def test_slow_work_has_a_rate_and_an_estimate_too() -> None:
    lines = watched(90, terminal=False).splitlines()
    assert lines[2] == "agent: 2 of 400, 40/h, 9 h 57 min left, 93 % right"
    assert lines[-1] == "agent: 400 of 400, 40/h, 10 h 0 min in all, 93 % right"


def test_a_terminal_shows_a_bar_that_goes_when_the_stage_is_complete() -> None:
    out = watched(0.25, terminal=True)
    assert "agent ━" in out and "0 of 400" in out
    assert not out.rstrip().splitlines()[-1].startswith("agent: ")


def test_a_stage_is_complete_once_and_may_begin_anew() -> None:
    file = io.StringIO()
    with Bars(Console(file=file), Clock()) as bars:
        for step in (Step("a", 2, 2), Step("a", 2, 2), Step("b", 0), Step("a", 0, 3), Step("a", 3, 3), Step("b", 3, 3)):
            bars(step)
    assert [line.split(",")[0] for line in file.getvalue().splitlines()] == [
        "a: 2 of 2",
        "b: ...",
        "a: 0 of 3",
        "a: 3 of 3",
        "b: 3 of 3",
    ]


def test_what_has_no_length_shows_that_it_goes_on() -> None:
    clock, file = Clock(), io.StringIO()
    with Bars(Console(file=file), clock) as bars, bars.during("Loading the model"):
        clock.now = 65
    assert file.getvalue().splitlines() == ["Loading the model: ...", "Loading the model: 1:05 in all"]


def test_sentences_are_results_and_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        bars(Step("a", 0, 2))
        bars("World 7: 3 rows")
    out, err = capsys.readouterr()
    assert out == "World 7: 3 rows\n" and err.startswith("a: 0 of 2")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals")
def test_a_sentence_does_not_land_in_the_middle_of_a_bar() -> None:
    script = "from deepmmsearch.cli.bars import Bars\nfrom deepmmsearch.progress import Step\n"
    script += "with Bars() as bars:\n bars(Step('a', 1, 9))\n bars('World 7: 3 rows')\n bars(Step('a', 2, 9))"
    master, terminal = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", script], stdout=terminal, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while piece := os.read(master, 65536):
            shown += piece
    os.close(master)
    assert b"a \x1b" in shown and re.search(rb"\x1b\[2KWorld 7: 3 rows\r\n", shown), shown


def test_an_interrupted_stage_leaves_the_terminal_as_it_was() -> None:
    file = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Bars(Console(file=file, force_terminal=True, width=80)) as bars:
        bars(Step("a", 1, 2))
        raise KeyboardInterrupt
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1


def test_rows_are_told_of_once_they_are_dealt_with() -> None:
    told: list[object] = []
    for row in tracked("ab", "letters", 2, told.append):
        told.append(row)
    assert told == [Step("letters", 0, 2), "a", Step("letters", 1, 2), "b", Step("letters", 2, 2)]
    assert str(told[0]) == "letters: 0 of 2" and str(Step("x", 1_000, None, "note")) == "x: 1,000, note"
    silent("nothing")


def test_spans_of_time() -> None:
    assert [span(s) for s in (0, 59.9, 61, 3599, 3600, 90_000)] == [
        "0:00",
        "0:59",
        "1:01",
        "59:59",
        "1 h 0 min",
        "25 h 0 min",
    ]
