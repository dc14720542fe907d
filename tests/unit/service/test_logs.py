"""The log: where it goes, what it shows, and that an entry is one line whatever is in it."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.core.errors import InvalidSettings
from runtime.service.logs import Lines, configure, one_line, set_severity
from runtime.service.sections.teleport import Log, LogOutput, Severity


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("runtime")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    root.handlers = []  # pytest's own are not ours to close
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(capture=False)


def entry(message: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    """Return an entry of one of our modules."""
    return logging.LogRecord("runtime.auth.gate", level, "gate.py", 1, message, args, None)


def test_an_entry_is_one_line() -> None:
    """Time in UTC to the millisecond, severity, logger without `runtime.`, message."""
    line = Lines().format(entry("%s is in", "joe"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO  auth\.gate: joe is in", line)
    assert Lines(time=False).format(entry("slow", level=logging.WARNING)) == "WARN  auth.gate: slow"


def test_what_a_stranger_names_is_escaped() -> None:
    """A line feed starts no line, ESC reaches no terminal, a right-to-left mark turns nothing round."""
    line = Lines(time=False).format(entry("refused %s", "a\n2026 INFO root: in\x1b[2J\u202e\u2028"))
    assert line == r"INFO  auth.gate: refused a\n2026 INFO root: in\x1b[2J\u202e\u2028"
    assert one_line("Zoë ✓") == "Zoë ✓"


def test_a_traceback_is_on_the_line() -> None:
    """An exception is shown whole, on the same line."""
    try:
        raise ValueError("broken")
    except ValueError as error:
        record = entry("failed")
        record.exc_info = (ValueError, error, error.__traceback__)
    line = Lines().format(record)
    assert "\n" not in line
    assert line.endswith(r"\nValueError: broken")


@pytest.mark.parametrize("output", [LogOutput.STDOUT, LogOutput.STDERR])
def test_output_and_severity(output: LogOutput, capsys: pytest.CaptureFixture[str]) -> None:
    """The log goes where it should and shows the severity asked for; a change of it takes effect."""
    ours = logging.getLogger("runtime.auth.gate")
    configure(Log(output=output, severity=Severity.WARN))
    ours.info("hidden")
    ours.warning("shown")
    set_severity(Severity.INFO)
    ours.info("shown later")
    out, err = capsys.readouterr()
    log, other = (out, err) if output is LogOutput.STDOUT else (err, out)
    assert [line.partition(": ")[2] for line in log.splitlines()] == ["shown", "shown later"]
    assert other == ""


def test_others_are_heard_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    """At DEBUG only our own loggers talk: those of libraries may show what they send."""
    configure(Log(output=LogOutput.STDERR, severity=Severity.DEBUG))
    logging.getLogger("botocore").debug("a secret")
    logging.getLogger("botocore").warning("a warning")
    logging.getLogger("runtime").debug("ours")
    assert [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()] == ["a warning", "ours"]


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """An entry is shown once, however often the log was configured."""
    configure(Log(severity=Severity.INFO))
    configure(Log(severity=Severity.INFO))
    logging.getLogger("runtime").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_syslog(tmp_path: Path) -> None:
    """The daemon gets facility daemon, the severity, our name, and no time: it has its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        sock.settimeout(10)
        configure(Log(output=LogOutput.SYSLOG, severity=Severity.INFO), syslog_socket=str(tmp_path / "log"))
        logging.getLogger("runtime.auth").error("gone")
        assert sock.recv(1024) == b"<27>teleport: ERROR auth: gone"


def test_no_syslog(tmp_path: Path) -> None:
    """Without a syslog daemon the start is refused, and says where it looked."""
    with pytest.raises(InvalidSettings, match="cannot go to syslog") as refused:
        configure(Log(output=LogOutput.SYSLOG), syslog_socket=str(tmp_path / "log"))
    assert "teleport.log.output" in refused.value.hint
