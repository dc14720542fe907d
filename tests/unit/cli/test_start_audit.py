"""The section `audit` of teleport.yaml becomes what it says: a log, sinks, retention."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from runtime.audit.log import Sync
from runtime.audit.sinks.stdout import StdoutSink
from runtime.audit.sinks.syslog import FACILITIES, SyslogSink
from runtime.audit.sinks.webhook import WebhookSink
from runtime.cli.start_audit import open_log, sinks
from runtime.cli.start_storage import auth_options
from runtime.core.clock import SystemClock
from runtime.core.errors import InvalidSettings
from runtime.service.checks import warnings
from runtime.service.load import resolve
from runtime.service.sections.audit import Facility
from runtime.service.settings import Settings

SECRET = "c2VjcmV0"


def test_without_the_section() -> None:
    """Events are put on the disk at once and kept in the storage for 90 days; recordings stay; nobody else gets any."""
    audit = Settings().audit
    assert (audit.fsync, audit.retention, audit.sinks) == (Sync.ALWAYS, timedelta(days=90), ())
    assert auth_options(Settings()).recordings_retention is None
    assert auth_options(Settings()).recordings_limit is None


def test_recordings() -> None:
    """An age, and MiB."""
    options = auth_options(resolve("audit: {recordings_retention: 8760h, recordings_limit: 10}"))
    assert options.recordings_retention == timedelta(days=365)
    assert options.recordings_limit == 10 * 1024 * 1024


def test_sinks() -> None:
    """One of each, told apart by where their events go; their secrets show themselves nowhere."""
    settings = resolve(f"""
    audit:
      sinks:
        - type: stdout
        - {{type: syslog, address: "udp://collector", facility: LOCAL3}}
        - {{type: syslog, address: "tcp://[::1]:601"}}
        - {{type: syslog}}
        - {{type: webhook, url: "http://localhost:1/{SECRET}", headers: {{X-Key: {SECRET}}}}}
        - {{type: webhook, url: "https://collector/x", token_file: /t, ca_file: /c}}
    """)
    assert SECRET not in repr(settings)
    made = list(sinks(settings, host="luna"))
    kinds = [StdoutSink, SyslogSink, SyslogSink, SyslogSink, WebhookSink, WebhookSink]
    assert [type(sink) for sink in made] == kinds
    assert len({sink.name for sink in made}) == len(made)
    assert [sink.name for sink in sinks(settings, host="sol")] == [sink.name for sink in made]
    syslog = [sink.address for sink in settings.audit.sinks if sink.type == "syslog"]
    assert syslog == ["udp://collector:514", "tcp://[::1]:601", "unix:///dev/log"]


def test_every_facility_has_a_code() -> None:
    """What the settings take, syslog can send."""
    assert set(FACILITIES) == set(Facility)


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        (f"{{type: webhook, url: 'https://joe:{SECRET}@collector'}}", "not shown"),
        (f"{{type: webhook, url: 'ftp://collector/{SECRET}'}}", "not shown"),
        (f"{{type: webhook, url: 'http://10.0.0.1/{SECRET}'}}", "expected https"),
        (
            f"{{type: webhook, url: 'https://a', headers: {{Authorization: {SECRET}}}, token_file: /t}}",
            "token_file sets",
        ),
        (f"{{type: webhook, url: 'https://a', headers: {{'a b': {SECRET}}}}}", "the name of an HTTP header"),
        ("{type: webhook, url: 'https://a', headers: {a: \"c2VjcmV0\\r\\nX: y\"}}", "not shown: a secret"),
        ("{type: webhook}", "url: is required"),
        ("{type: syslog, address: 'unix://log'}", "expected an absolute path"),
        ("{type: syslog, address: 'udp://a:0'}", "expected a port"),
        ("{type: syslog, facility: mail}", "facility: expected auth, authpriv"),
    ],
)
def test_refused(sink: str, message: str) -> None:
    """What cannot work, or would travel in the clear, is refused, and no secret is shown."""
    with pytest.raises(InvalidSettings) as caught:
        resolve(f"audit: {{sinks: [{sink}]}}")
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_warnings() -> None:
    """Syslog over a network is in the clear, and a log on stdout stands between the events."""
    settings = resolve("""
    teleport: {log: {output: stdout}}
    audit:
      sinks:
        - {type: syslog}
        - {type: syslog, address: "tcp://127.0.0.1"}
        - {type: syslog, address: "udp://collector"}
        - {type: stdout}
    """)
    assert [path for path, _ in warnings(settings)] == [("audit", "sinks", 2, "address"), ("audit", "sinks", 3)]


def test_a_log_that_cannot_be_kept(tmp_path: Path) -> None:
    """Another process has it, or it is no folder: that is told with what to do."""
    settings = resolve(f"teleport: {{data_dir: {tmp_path}}}")
    log = open_log(settings, SystemClock())
    with pytest.raises(InvalidSettings, match="another process keeps"):
        open_log(settings, SystemClock())
    log.close()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match="cannot be kept"):
        open_log(resolve(f"teleport: {{data_dir: {tmp_path}/file}}"), SystemClock())
