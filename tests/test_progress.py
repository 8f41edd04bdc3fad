"""The progress line: what is written, when, and that nothing wrong with a stream is heard of."""

from __future__ import annotations

import io
import os
import shutil
import sys
from types import SimpleNamespace

import pytest

from fastnn.reporting import progress as room
from fastnn.reporting.progress import Progress, format_seconds


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Stream(io.StringIO):
    """A stream that notes each write and may be a terminal."""

    def __init__(self, terminal=False, encoding="utf-8"):
        super().__init__()
        self.terminal = terminal
        self.code = encoding
        self.writes = []

    @property
    def encoding(self):
        return self.code

    def isatty(self):
        return self.terminal

    def write(self, text):
        if self.code is not None:
            text.encode(self.code)
        self.writes.append(text)
        return super().write(text)


class Screen:
    """What a terminal of one line after another would show."""

    def __init__(self, text):
        self.lines = [""]
        for part in text.replace("\n", "\0\n\0").replace("\r", "\0\r\0").split("\0"):
            if part == "\n":
                self.lines.append("")
                column = 0
            elif part == "\r":
                column = 0
            elif part:
                line = self.lines[-1]
                self.lines[-1] = line[:column] + part + line[column + len(part) :]
                column += len(part)
        self.lines = [line.rstrip() for line in self.lines]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda fallback=(80, 24): size(200))
    monkeypatch.delitem(sys.modules, "IPython", raising=False)


def size(columns):
    return os.terminal_size((columns, 24))


def live(clock, epochs=10, names=("loss", "accuracy", "val_loss", "val_accuracy"), **keywords):
    stream = Stream(terminal=True, **keywords)
    return Progress("auto", epochs, names, stream, clock), stream


def run(shown, clock, epochs, seconds, **logs):
    """Finish epochs, each after so many seconds."""
    for epoch in range(1, epochs + 1):
        clock.now += seconds
        shown.epoch_end(epoch, logs)


def test_the_line_on_a_terminal(clock):
    shown, stream = live(clock)
    shown.epoch_end(4, {"loss": 0.5, "val_loss": 0.625, "accuracy": 0.75, "val_accuracy": 1.0})
    clock.now += 4.0
    shown.update(0.0, {})
    clock.now += 4.0
    shown.update(0.5, {"loss": 0.12345})
    assert Screen(stream.getvalue()).lines == [
        "epoch  5/10 ━━━━━━━━━───────────  45%  loss 0.1235  val_loss 0.6250  accuracy 0.7500  "
        "val_accuracy 1.000  16 s/epoch  1 min left"
    ]


def test_the_end_on_a_terminal(clock):
    shown, stream = live(clock, epochs=2, names=("loss",))
    clock.now += 3.0
    shown.epoch_end(1, {"loss": 0.5})
    clock.now += 0.5
    shown.epoch_end(2, {"loss": 0.25})
    shown.close()
    assert Screen(stream.getvalue()).lines == [
        "epoch 2/2 ━━━━━━━━━━━━━━━━━━━━ 100%  loss 0.2500  2.0 epochs/s",
        "2 epochs in 3.5 s",
        "",
    ]


def test_stopped_early(clock):
    shown, stream = live(clock, epochs=100, names=("loss",))
    run(shown, clock, 7, 1.0, loss=0.5)
    shown.close("early stopping")
    line, end, rest = Screen(stream.getvalue()).lines
    assert line == "epoch   7/100 ━───────────────────   7%  loss 0.5000  1.0 epochs/s"
    assert end == "stopped after 7 of 100 epochs, 7.0 s: early stopping"
    assert rest == ""


def test_stopped_in_the_last_epoch_gives_the_reason_too(clock):
    shown, stream = live(clock, epochs=1)
    shown.epoch_end(1, {"loss": 0.5})
    shown.close("early stopping")
    assert stream.getvalue().endswith("\n1 epoch in 0 s: early stopping\n")


def test_interrupted_in_the_first_epoch(clock):
    shown, stream = live(clock, epochs=3)
    shown.update(0.25, {"loss": 2.0})
    clock.now += 1.0
    shown.close("interrupted")
    line, end, _ = Screen(stream.getvalue()).lines
    assert line == "epoch 1/3 ━╸──────────────────   8%  loss 2.000"
    assert end == "stopped after 0 of 3 epochs, 1.0 s: interrupted"


def test_interrupted_before_anything_was_drawn(clock):
    shown, stream = live(clock, epochs=3)
    shown.close("interrupted")
    assert stream.getvalue() == "stopped after 0 of 3 epochs, 0 s: interrupted\n"


def test_closing_twice_is_closing_once(clock):
    shown, stream = live(clock, epochs=1)
    shown.epoch_end(1, {"loss": 0.5})
    shown.close()
    before = stream.getvalue()
    shown.close("interrupted")
    assert stream.getvalue() == before


def test_at_most_ten_lines_a_second(clock):
    shown, stream = live(clock, epochs=1000)
    for step in range(10_000):
        clock.now += 0.001
        shown.update((step % 10) / 10, {"loss": 1.0})
        if step % 10 == 9:
            shown.epoch_end(step // 10 + 1, {"loss": 1.0})
    assert 90 <= len(stream.writes) <= 101
    shown.close()
    assert "epoch 1000/1000 ━━━━━━━━━━━━━━━━━━━━ 100%" in stream.getvalue()


def test_a_shorter_line_leaves_nothing_of_a_longer_one(clock):
    shown, stream = live(clock, epochs=10, names=("loss",))
    shown.epoch_end(1, {"loss": -1.5e-7})
    shown.epoch_end(2, {"loss": 1.0})
    shown.close()
    assert Screen(stream.getvalue()).lines[0] == "epoch  2/10 ━━━━────────────────  20%  loss 1.000"


def test_time_left_does_not_count_what_came_before_the_first_line(clock):
    shown, stream = live(clock, epochs=5, names=())
    clock.now += 60.0
    shown.update(0.5, {})
    assert "left" not in stream.getvalue()
    clock.now += 1.0
    shown.epoch_end(1, {})
    assert stream.writes[-1].endswith("  20%  2.0 s/epoch  8 s left")


def test_nothing_is_guessed_while_the_clock_stands_still(clock):
    shown, stream = live(clock, names=())
    for epoch in (1, 2):
        shown._next = clock.now
        shown.epoch_end(epoch, {})
    assert len(stream.writes) == 2
    assert "left" not in stream.getvalue()


def test_the_line_fits_the_terminal(monkeypatch, clock):
    logs = {"loss": 0.5, "val_loss": 0.625, "accuracy": 0.75, "val_accuracy": 0.5}
    for columns in range(1, 200):
        monkeypatch.setattr(shutil, "get_terminal_size", lambda fallback, c=columns: size(c))
        shown, stream = live(clock)
        run(shown, clock, 2, 1.0, **logs)
        room = max(columns - 1, 1)
        assert max(len(text.removeprefix("\r")) for text in stream.writes) <= room
        assert " 2/10"[:room] in stream.writes[-1]


def test_what_is_dropped_first(monkeypatch, clock):
    logs = {"loss": 0.5, "val_loss": 0.625, "accuracy": 0.75, "val_accuracy": 0.5}
    seen = []
    for columns in range(200, 1, -1):
        monkeypatch.setattr(shutil, "get_terminal_size", lambda fallback, c=columns: size(c))
        shown, stream = live(clock)
        run(shown, clock, 2, 1.0, **logs)
        line = Screen(stream.getvalue()).lines[0]
        if not seen or line != seen[-1]:
            seen.append(line)
    wide, narrow = "━━━━────────────────", "━─────"
    losses, left = "loss 0.5000  val_loss 0.6250", "8 s left"
    both = "accuracy 0.7500  val_accuracy 0.5000"
    assert seen[:11] == [
        f"epoch  2/10 {wide}  20%  {losses}  {both}  1.0 epochs/s  {left}",
        f"epoch  2/10 {wide}  20%  {losses}  {both}  {left}",
        f"epoch  2/10 {narrow}  20%  {losses}  {both}  {left}",
        f"epoch  2/10 {narrow}  20%  {losses}  val_accuracy 0.5000  {left}",
        f"epoch  2/10 {narrow}  {losses}  val_accuracy 0.5000  {left}",
        f" 2/10 {narrow}  {losses}  val_accuracy 0.5000  {left}",
        f" 2/10  {losses}  val_accuracy 0.5000  {left}",
        f" 2/10  {losses}  {left}",
        f" 2/10  {losses}",
        " 2/10  loss 0.5000",
        " 2/10  loss 0.500",
    ]


def test_what_was_dropped_stays_away_until_the_terminal_is_resized(monkeypatch, clock):
    columns = [60]
    monkeypatch.setattr(shutil, "get_terminal_size", lambda fallback: size(columns[0]))
    shown, stream = live(clock, names=("loss",))
    shown.epoch_end(1, {"loss": 0.5})
    assert "────────  10%" in stream.writes[-1]
    clock.now += 1.0
    shown.epoch_end(2, {"loss": -1.5e-7})
    assert "epochs/s" not in stream.writes[-1]
    clock.now += 1.0
    shown.epoch_end(3, {"loss": 0.0})
    assert "epochs/s" not in stream.writes[-1]
    columns[0] = 100
    clock.now += 1.0
    shown.epoch_end(4, {"loss": 0.0})
    assert "1.0 epochs/s" in stream.writes[-1]


def test_plain_lines_where_it_is_no_terminal(clock):
    stream = Stream()
    shown = Progress(True, 12, ["loss", "val_loss"], stream, clock)
    for epoch in range(1, 13):
        shown.update(0.5, {"loss": 9.0})
        clock.now += 0.2
        shown.epoch_end(epoch, {"loss": 1.0 / epoch, "val_loss": 2.0})
    shown.close()
    assert stream.getvalue().splitlines() == [
        "epoch  1/12   8%  loss 1.000  val_loss 2.000",
        "epoch  4/12  33%  loss 0.2500  val_loss 2.000  5.0 epochs/s  2 s left",
        "epoch  7/12  58%  loss 0.1429  val_loss 2.000  5.0 epochs/s  1 s left",
        "epoch 10/12  83%  loss 0.1000  val_loss 2.000  5.0 epochs/s  1 s left",
        "epoch 12/12 100%  loss 0.08333  val_loss 2.000  5.0 epochs/s",
        "12 epochs in 2.4 s",
    ]
    assert "\r" not in stream.getvalue()


def test_plain_lines_are_flushed(clock):
    flushed = []
    stream = Stream()
    stream.flush = lambda: flushed.append(stream.getvalue())
    Progress(True, 12, ["loss"], stream, clock).epoch_end(1, {"loss": 1.0})
    assert flushed == ["epoch  1/12   8%  loss 1.000\n"]


def test_a_fit_stopped_between_plain_lines_still_shows_its_last_epoch(clock):
    stream = Stream()
    shown = Progress(True, 100, ["loss"], stream, clock)
    for epoch in (1, 2):
        shown.epoch_end(epoch, {"loss": 1.0 / epoch})
        clock.now += 0.1
    shown.close("early stopping")
    assert stream.getvalue().splitlines() == [
        "epoch   1/100   1%  loss 1.000",
        "epoch   2/100   2%  loss 0.5000  5.0 epochs/s  20 s left",
        "stopped after 2 of 100 epochs, 0.2 s: early stopping",
    ]


def test_plain_lines_do_not_repeat_the_last_epoch(clock):
    stream = Stream()
    shown = Progress(True, 5, ["loss"], stream, clock)
    shown.epoch_end(1, {"loss": 1.0})
    shown.close("interrupted")
    assert stream.getvalue().count("epoch 1/5") == 1


@pytest.mark.parametrize(
    ("mode", "terminal", "shows"),
    [
        ("auto", True, True),
        ("auto", False, False),
        (True, False, True),
        (True, True, True),
        (False, True, False),
        (False, False, False),
    ],
)
def test_when_it_shows(clock, mode, terminal, shows):
    stream = Stream(terminal=terminal)
    shown = Progress(mode, 1, ["loss"], stream, clock)
    assert shown.shown is shows
    shown.update(0.5, {"loss": 1.0})
    shown.epoch_end(1, {"loss": 1.0})
    shown.close()
    assert bool(stream.getvalue()) is shows


def test_a_silent_one_asks_nobody(clock):
    shown = Progress(False, 1, ["loss"], None, clock)
    shown._clock = shown._stream = None
    shown.update(0.5, {"loss": 1.0})
    shown.epoch_end(1, {"loss": 1.0})
    shown.close()


def shell(name):
    base = type(name, (), {})
    return SimpleNamespace(get_ipython=lambda: type("Shell", (base,), {})())


def test_it_shows_in_a_notebook(monkeypatch, clock):
    monkeypatch.setitem(sys.modules, "IPython", shell("ZMQInteractiveShell"))
    stream = Stream()
    shown = Progress("auto", 2, ["loss"], stream, clock)
    shown.epoch_end(1, {"loss": 1.0})
    assert stream.getvalue().startswith("\repoch 1/2 ━━━━━━━━━━──────────  50%  loss 1.000")


@pytest.mark.parametrize(
    "module",
    [shell("TerminalInteractiveShell"), SimpleNamespace(get_ipython=lambda: None), None, object()],
)
def test_other_shells_are_no_notebooks(monkeypatch, clock, module):
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert not Progress("auto", 2, ["loss"], Stream(), clock).shown


@pytest.mark.parametrize("mode", ["yes", "True", None, 1, 0, 1.0, [], ("auto",)])
def test_other_modes_are_refused(mode):
    with pytest.raises(ValueError, match=r"^progress must be 'auto', True or False; got "):
        Progress(mode, 1, ["loss"])


def test_stderr_is_the_default_and_is_looked_up_late(monkeypatch, clock):
    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    Progress(True, 1, ["loss"], clock=clock).epoch_end(1, {"loss": 1.0})
    assert stream.getvalue() == "epoch 1/1 100%  loss 1.000\n"


@pytest.mark.parametrize("mode", ["auto", True])
def test_without_stderr_it_is_silent(monkeypatch, clock, mode):
    monkeypatch.setattr(sys, "stderr", None)
    shown = Progress(mode, 1, ["loss"], clock=clock)
    assert not shown.shown
    run(shown, clock, 1, 1.0, loss=1.0)
    shown.close()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError, RuntimeError])
@pytest.mark.parametrize("method", ["write", "flush"])
def test_a_stream_that_fails_is_left_alone(clock, terminal, error, method):
    calls = []

    def fail(*text):
        calls.append(text)
        raise error

    stream = Stream(terminal=terminal)
    setattr(stream, method, fail)
    shown = Progress(True, 10, ["loss"], stream, clock)
    run(shown, clock, 10, 1.0, loss=1.0)
    shown.close()
    assert len(calls) == 1
    assert not shown.shown


def test_a_closed_stream(clock):
    stream = io.StringIO()
    stream.close()
    assert not Progress("auto", 1, ["loss"], stream, clock).shown
    shown = Progress(True, 1, ["loss"], stream, clock)
    run(shown, clock, 1, 1.0, loss=1.0)
    shown.close()


def test_an_interrupt_while_writing_is_not_swallowed(clock):
    def interrupt(text):
        raise KeyboardInterrupt

    stream = Stream()
    stream.write = interrupt
    with pytest.raises(KeyboardInterrupt):
        Progress(True, 1, ["loss"], stream, clock).epoch_end(1, {"loss": 1.0})


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "no such encoding"])
def test_an_encoding_without_lines_gets_ascii(clock, encoding):
    shown, stream = live(clock, epochs=4, names=("loss",), encoding=None)
    stream.code = encoding
    stream.write = stream.writes.append
    shown = Progress("auto", 4, ["loss"], stream, clock)
    shown.epoch_end(1, {"loss": 1.0})
    assert stream.writes == ["\repoch 1/4 =====...............  25%  loss 1.000"]


def test_an_ascii_half_cell(clock):
    shown, stream = live(clock, epochs=40, names=("loss",), encoding="ascii")
    shown.epoch_end(3, {"loss": 1.0})
    assert " =-..................   7%" in stream.getvalue()


def test_a_stream_without_encoding_gets_lines(clock):
    shown, stream = live(clock, epochs=4, encoding=None)
    shown.epoch_end(1, {"loss": 1.0})
    assert "━━━━━───────────────" in stream.getvalue()


def test_a_metric_that_the_encoding_cannot_write(clock):
    shown, stream = live(clock, epochs=4, names=("größe",), encoding="ascii")
    shown.epoch_end(1, {"größe": 1.0})
    assert "gr??e 1.000" in stream.getvalue()
    assert shown.shown


@pytest.mark.parametrize("epochs", [1, 3, 7, 29, 100, 365])
def test_the_percentage_is_whole_at_the_end_only(clock, epochs):
    shown, stream = live(clock, epochs=epochs, names=())
    run(shown, clock, epochs, 1.0)
    for epoch, text in enumerate(stream.writes, start=1):
        assert f" {100 * epoch // epochs:>3}%" in text


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_on_a_real_terminal(monkeypatch, clock):
    fcntl, struct, termios = map(pytest.importorskip, ("fcntl", "struct", "termios"))
    monkeypatch.undo()
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "__stdout__", None)
    controller, terminal = os.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
        with open(terminal, "w", encoding="utf-8") as stream:
            shown = Progress("auto", 3, ["loss", "val_loss"], stream, clock)
            assert shown.shown
            shown.epoch_end(1, {"loss": 1.0, "val_loss": 2.0})
            text = os.read(controller, 1000).decode()
    finally:
        os.close(controller)
    assert text == "\r1/3 ━━────  loss 1.000  val_loss 2.000"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-1.0, "0 s"),
        (0.0004, "0 s"),
        (0.0006, "1 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (0.96, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3661, "1 h 1 min"),
        (86_340, "23 h 59 min"),
        (86_399, "1 d"),
        (90_000, "1 d 1 h"),
        (float("inf"), "an unknown time"),
        (float("nan"), "an unknown time"),
    ],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1, "1 s left"),
        (11.6, "12 s left"),
        (59.4, "59 s left"),
        (59.6, "1 min left"),
        (200, "3 min left"),
        (3569, "59 min left"),
        (3571, "1 h left"),
        (9000, "2 h 30 min left"),
    ],
)
def test_time_left(seconds, text):
    assert room._left(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.005, "3 min 20 s/epoch"),
        (0.5, "2.0 s/epoch"),
        (1.0, "1.0 epochs/s"),
        (9.94, "9.9 epochs/s"),
        (38.2, "38 epochs/s"),
        (12345.6, "12346 epochs/s"),
    ],
)
def test_speed(rate, text):
    assert room._speed(rate) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (1.0, "1.000"),
        (0.5, "0.5000"),
        (0.99996, "1.000"),
        (-0.25, "-0.2500"),
        (1234.5, "1234"),
        (9999.6, "1.00e+04"),
        (0.0012345, "0.001234"),
        (0.00012, "1.20e-04"),
        (float("nan"), "   nan"),
        (float("-inf"), "  -inf"),
    ],
)
def test_values(value, text):
    assert room._value(value) == text
