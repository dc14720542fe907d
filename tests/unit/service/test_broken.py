"""The files of broken/, one for each class of error: each is refused with file, line, key and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.core.errors import InvalidSettings
from runtime.service.flags import Flags
from runtime.service.load import load_settings

BROKEN = Path(__file__).parent / "broken"

EXPECTED = {
    "aliases": (":5: aliases repeat",),
    "audit_sink_twice": (":5: audit.sinks[1]: events go there already",),
    "audit_sinks": (" has 9 mistakes:\n", ":2: audit.fsync: expected always, interval or never, found 'sometimes'",
                    ":3: audit.retention: expected a duration such as 2160h (90 days), but '90'",
                    ":4: audit.recordings_retention: expected 1h or more, found '1m'",
                    ":7: audit.sinks[0].address: expected udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH",
                    ":8: audit.sinks[1].type: expected stdout, syslog or webhook, found 'webhok'; did you mean webhook",
                    ":10: audit.sinks[2].url: expected https: events would travel to 'events.main.example'",
                    ":14: audit.sinks[3].headers.Host: teleport sets this header by itself",
                    ":15: audit.sinks[4].type: is required: stdout, syslog or webhook",
                    ":17: audit.sinks[5].facility: does not belong here, but in audit.sinks of type syslog"),
    "bad_choice": (":3: auth_service.authentication.second_factor: expected off, otp or u2f, found 'opt'",
                   "; did you mean otp?"),
    "bad_duration": (":5: ssh_service.commands[0].period: expected a duration such as 30s, 1m0s or 1h", "'1 minute'"),
    "bad_port": (":2: auth_service.listen_addr: expected a port from 0 to 65535, found '70000'",),
    "control_character": (":2: teleport.nodename: expected a name", r"found 'grav\x1biton'"),
    "custom_tag": (":2: ", "tag"),
    "duplicate_key": (":4: ", "'enabled' is there twice"),
    "half_a_pair": (":3: proxy_service.https_key_file: https_key_file needs https_cert_file",),
    "label_set_twice": (":5: ssh_service.commands[0].name: the label arch is set twice",),
    "missing_key": (":2: teleport.storage.peers: is required",),
    "no_auth_server": (":1: teleport.auth_servers: auth does not run here", "--auth-server"),
    "not_yaml": (":5: ", "quoted scalar"),
    "nothing_enabled": (":2: auth_service.enabled: no service is enabled here",),
    "openssh_server": (" has 2 mistakes:\n", ":3: proxy_service.openssh_servers[0].addr: is required",
                       ":6: proxy_service.openssh_servers[1].addr: expected a port from 1 to 65535, found '0'"),
    "port_taken": (":3: proxy_service.tunnel_listen_addr: port 3023 is taken by proxy_service.listen_addr",),
    "secret_without_key": (":6: teleport.storage.secret_key: secret_key needs access_key",),
    "several": (" has 5 mistakes:\n",),
    "tab": (":2: ", "tab"),
    "u2f_without_section": (":4: auth_service.authentication.second_factor: u2f needs a section u2f",),
    "unknown_key": (":3: teleport.data_dirr: unknown key; did you mean data_dir?",),
    "unknown_storage": (":3: teleport.storage.type: expected sqlite, bolt, dir, etcd or dynamodb, found 'etdc'",
                        "; did you mean etcd?"),
    "unquoted_token": (":3: auth_service.tokens[0]: expected a single value, found a section", "stands in quotes"),
    "wrong_storage_key": (":6: teleport.storage.peers: does not belong here, but in teleport.storage of type etcd",),
    "wrong_type": (":2: teleport.auth_servers: expected a list, found a single value",),
}  # fmt: skip


def refusal(file: Path) -> str:
    """Return what the file is refused with."""
    with pytest.raises(InvalidSettings) as caught:
        load_settings(Flags(config=str(file)))
    return str(caught.value)


def test_every_file_is_expected() -> None:
    """Each file in the folder is in the table and each of the table is a file."""
    assert {file.stem for file in BROKEN.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_broken_file(name: str) -> None:
    """The error names the file first, then the line, the key and what was expected; it shows no secret."""
    file = BROKEN / f"{name}.yaml"
    message = refusal(file)
    start, *fragments = EXPECTED[name]
    assert message.startswith(f"{file}{start}")
    for fragment in fragments:
        assert fragment in message
    assert "Zm9yLXRlc3" not in message
    assert "c2VjcmV0" not in message


def test_several_mistakes_at_once() -> None:
    """All mistakes of a file are told, in the order of lines."""
    file = BROKEN / "several.yaml"
    head, *lines = refusal(file).split("\n")
    assert head == f"{file} has 5 mistakes:"
    assert [line.removeprefix(str(file)).split(": ")[:2] for line in lines] == [
        [":2", "teleport.nodnam"],
        [":4", "teleport.log.severity"],
        [":6", "auth_service.enabled"],
        [":8", "auth_service.tokens[0]"],
        [":10", "proxy_service.https_cert_file"],
    ]
