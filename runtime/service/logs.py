"""The log of the process (manual, `log`): one line an entry, to stderr, stdout or syslog, at the severity asked for.

    2026-11-22T18:00:00.123Z INFO  service.member: node.4f…: auth is back

Control characters, line feeds of a traceback among them, are escaped: no name that a stranger chose starts a line of
its own or reaches a terminal. Other libraries are heard from WARN on only, whatever is asked for: at DEBUG some of them
show what they sign and send.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path

from runtime.core.errors import InvalidSettings
from runtime.service.sections.teleport import Log, LogOutput, Severity

OURS = "runtime"
"""The root of our loggers; entries show their names without it."""
SYSLOG_SOCKET = "/dev/log"

_LEVELS = {
    Severity.DEBUG: logging.DEBUG,
    Severity.INFO: logging.INFO,
    Severity.WARN: logging.WARNING,
    Severity.ERROR: logging.ERROR,
}
_SHOWN = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}


class Lines(logging.Formatter):
    """Formats an entry as one line."""

    def __init__(self, *, time: bool = True) -> None:
        super().__init__()
        self._time = time

    def format(self, record: logging.LogRecord) -> str:
        """Return severity, logger and message, behind the time in UTC where it is wanted."""
        severity = _SHOWN.get(record.levelno, record.levelname)
        text = f"{severity:5} {record.name.removeprefix(f'{OURS}.')}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if self._time:
            text = f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03}Z {text}"
        return one_line(text)


def one_line(text: str) -> str:
    r"""Return text with everything escaped that is not printable: ESC becomes `\x1b`, a line feed `\n`."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def configure(log: Log, *, syslog_socket: str = SYSLOG_SOCKET) -> None:
    """Send the log where the settings say and nowhere else. Raises InvalidSettings when syslog is not there."""
    root = logging.getLogger()
    handler = _handler(log.output, syslog_socket)
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    set_severity(log.severity)


def set_severity(severity: Severity) -> None:
    """Show entries of that severity and above from now on."""
    logging.getLogger(OURS).setLevel(_LEVELS[severity])
    logging.getLogger().setLevel(max(logging.WARNING, _LEVELS[severity]))


def _handler(output: LogOutput, syslog_socket: str) -> logging.Handler:
    if output is not LogOutput.SYSLOG:
        stream = logging.StreamHandler(sys.stdout if output is LogOutput.STDOUT else sys.stderr)
        stream.setFormatter(Lines())
        return stream
    if not Path(syslog_socket).is_socket():  # the handler would start all the same, and lose what it is given
        raise InvalidSettings(
            f"the log cannot go to syslog: there is none at {syslog_socket}",
            hint="Start a syslog daemon, or set teleport.log.output to stderr.",
        )
    syslog = logging.handlers.SysLogHandler(syslog_socket, logging.handlers.SysLogHandler.LOG_DAEMON)
    syslog.ident = "teleport: "
    syslog.append_nul = False
    syslog.setFormatter(Lines(time=False))  # syslog has its own
    return syslog
