"""Reading the file, and what holds for the document as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.errors import InvalidSettings
from runtime.service.checks import warnings
from runtime.service.flags import Flags
from runtime.service.load import MAX_FILE_BYTES, load_settings, resolve
from runtime.service.schema import sections
from runtime.service.settings import Settings


def test_the_file_is_read(tmp_path: Path) -> None:
    """--config names the file; a byte order mark does no harm."""
    file = tmp_path / "teleport.yaml"
    file.write_bytes(b"\xef\xbb\xbfteleport:\n  nodename: graviton\n")
    assert load_settings(Flags(config=str(file))).teleport.nodename == "graviton"


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that --config names must be there; the default file need not be."""
    missing = tmp_path / "teleport.yaml"
    with pytest.raises(InvalidSettings, match=r"teleport\.yaml: there is no such file$"):
        load_settings(Flags(config=str(missing)))
    assert load_settings(default_file=str(missing)) == Settings()


def test_the_default_file(tmp_path: Path) -> None:
    """Without --config the default file is read, and its mistakes count."""
    file = tmp_path / "teleport.yaml"
    file.write_text("teleport: {nodename: graviton}")
    assert load_settings(default_file=str(file)).teleport.nodename == "graviton"
    file.write_text("teleprot: {}")
    with pytest.raises(InvalidSettings, match=r":1: teleprot: unknown key; did you mean teleport\?"):
        load_settings(default_file=str(file))


def test_an_unreadable_file(tmp_path: Path) -> None:
    """What cannot be read is refused with the system's reason (a folder cannot, not even by root)."""
    with pytest.raises(InvalidSettings, match="cannot be read: Is a directory"):
        load_settings(Flags(config=str(tmp_path)))


def test_a_huge_file(tmp_path: Path) -> None:
    """A file beyond the limit is refused before it is parsed."""
    file = tmp_path / "teleport.yaml"
    file.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(InvalidSettings, match="is larger than"):
        load_settings(Flags(config=str(file)))


def test_not_utf8(tmp_path: Path) -> None:
    """Text in another encoding is refused with its line."""
    file = tmp_path / "teleport.yaml"
    file.write_bytes("teleport:\n  nodename: gr\xe4viton\n".encode("latin-1"))
    with pytest.raises(InvalidSettings, match=r"teleport\.yaml:2: is not UTF-8"):
        load_settings(Flags(config=str(file)))


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}", "teleport:\n", "ssh_service: ~\n",
                                  "teleport:\n  auth_servers:\n  log:\n    output:\n"])  # fmt: skip
def test_nothing_means_the_defaults(text: str) -> None:
    """An empty file, and keys with nothing after them, mean the defaults."""
    assert resolve(text) == Settings()


def test_two_documents() -> None:
    """A second document is refused, not left unread."""
    with pytest.raises(InvalidSettings, match=r"teleport\.yaml:3: a second document begins"):
        resolve("teleport: {}\n---\nteleport: {}\n")


@pytest.mark.parametrize(
    ("text", "found"), [("- a", "a list"), ("just text", "a single value"), ("7", "a single value")]
)
def test_not_sections(text: str, found: str) -> None:
    """A file of something else than sections is refused."""
    with pytest.raises(InvalidSettings, match=rf":1: .*expected a section of keys, found {found}"):
        resolve(text)


def test_a_section_that_is_text() -> None:
    """Text where a section is due is refused, and not shown: it may be a token that slipped."""
    with pytest.raises(
        InvalidSettings, match=r"auth_service: expected a section of keys, found a single value"
    ) as caught:
        resolve("auth_service: hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("token", ["0123", "1e5", "1_000", "0x1F", "2026-01-02", "yes", "1:20", '"quoted"', "'0'"])
def test_text_is_taken_as_written(token: str) -> None:
    """A token that YAML would read as a number, a date or a truth is kept as it was written."""
    written = resolve(f"teleport: {{auth_token: {token}}}").teleport.auth_token
    assert written
    assert written.get_secret_value() == token.strip("\"'")


def test_quoted_truth() -> None:
    """A quoted "yes" is yes, as Go's YAML has it."""
    assert resolve('ssh_service: {enabled: "no"}').ssh_service.enabled is False


def test_aliases() -> None:
    """Aliases and merges are understood."""
    settings = resolve("""
    ssh_service: &service {enabled: yes}
    proxy_service: {<<: *service, https_key_file: &file /x, https_cert_file: *file}
    """)
    assert settings.proxy_service.https_cert_file == "/x"


@pytest.mark.parametrize(
    "line",
    ["auth_token: [hunter2]", "auth_token: {hunter2: x}", 'auth_token: "hunter2', "auth_token: hunter2 hunter2",
     "auth_token: 'hunter2' hunter2", "auth_token: *hunter2", "auth_token: !hunter2 x", "auth_token: &hunter2 [x]",
     "auth_token: !hunter2!x y", "storage: {type: dynamodb, secret_key: [hunter2]}", "storage: hunter2",
     "storage: [hunter2]", "auth_token: |hunter2", "auth_token: @hunter2", "auth_token: %hunter2",
     'auth_token: "\\hunter2"'],
)  # fmt: skip
def test_no_error_shows_a_secret(line: str) -> None:
    """However a secret is mistyped, no error shows it."""
    with pytest.raises(InvalidSettings) as caught:
        resolve(f"teleport:\n  {line}\n")
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert str(caught.value).startswith("/etc/teleport.yaml")


def test_settings_show_no_secret() -> None:
    """The repr of settings and of what opens the backend has no secret in it."""
    settings = resolve("""
    teleport:
      auth_token: hunter2
      storage: {type: dynamodb, region: r, table_name: ttt, access_key: a, secret_key: hunter2}
    auth_service: {tokens: ["node:hunter2"]}
    """)
    assert "hunter2" not in f"{settings!r} {settings} {settings.backend!r} {warnings(settings)}"


def test_a_key_of_another_section() -> None:
    """A key in the wrong section is told where it belongs."""
    with pytest.raises(InvalidSettings, match=r"auth_service\.auth_servers: does not belong here, but in teleport$"):
        resolve("auth_service: {auth_servers: [a]}")


def test_a_key_of_a_section_below() -> None:
    """The nearest key of this section is told too."""
    with pytest.raises(InvalidSettings, match=r"but in ssh_service\.commands; did you mean commands\?"):
        resolve("ssh_service: {command: []}")


def test_warnings() -> None:
    """What runs but deserves a word is told with its key; good settings get none."""
    assert warnings(Settings()) == []
    settings = resolve("""
    teleport: {storage: {type: bolt}}
    auth_service: {tokens: ["node:0123456789abcdef0123456789abcdef", "node:short"]}
    """)
    assert [path for path, _ in warnings(settings)] == [("teleport", "storage", "type"), ("auth_service", "tokens", 1)]
    etcd = resolve("teleport: {storage: {type: etcd, peers: [a], insecure: yes}}")
    assert [path for path, _ in warnings(etcd)] == [("teleport", "storage", "insecure")]
    for address, warned in (("127.0.0.1", False), ('"[::1]:1"', False), ("localhost", False), ("10.0.0.1", True)):
        found = warnings(resolve(f"teleport: {{diag_addr: {address}}}"))
        assert [path for path, _ in found] == [("teleport", "diag_addr")] * warned


def test_ports_may_repeat_on_other_addresses() -> None:
    """One port on two addresses is no conflict, nor is port 0, nor a service that does not run."""
    assert resolve("proxy_service: {listen_addr: 10.0.0.1:3023, tunnel_listen_addr: 10.0.0.2:3023}")
    assert resolve("proxy_service: {listen_addr: 0.0.0.0:0, tunnel_listen_addr: 0.0.0.0:0}")
    assert resolve("proxy_service: {listen_addr: 0.0.0.0:3022}\nssh_service: {enabled: no}")


KEYS = sorted({key for _, section in sections(Settings) for key in section.model_fields})
VALUES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(["etcd", "u2f", "off", "a:1"])
)
DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(DOCUMENTS)
def test_any_document_ends_in_settings_or_one_error(document: object) -> None:
    """Whatever a file holds, it gives settings or InvalidSettings, and nothing else."""
    from runtime.service.sample import as_yaml

    try:
        settings: object = resolve(as_yaml(document))
    except InvalidSettings as error:
        settings = error
    assert isinstance(settings, Settings | InvalidSettings)
