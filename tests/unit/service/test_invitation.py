"""What a machine joins with, in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime.core.errors import InvalidSettings, Unavailable
from runtime.service.invitation import pin_of, token_of

PIN = "SHA256:" + "A" * 43


def test_what_is_written_is_taken_as_it_is() -> None:
    """A token that is no path, and a fingerprint, are what they are."""
    assert token_of(SecretStr("a-token/with-a-slash")).get_secret_value() == "a-token/with-a-slash"
    assert pin_of(PIN) == PIN
    assert pin_of(None) is None


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    """What a file holds counts, without the end of its line; a new content counts the next time."""
    token, pin = tmp_path / "token", tmp_path / "pin"
    token.write_text("first-token\n")
    pin.write_text(f"{PIN}\n")
    assert token_of(SecretStr(str(token))).get_secret_value() == "first-token"
    assert pin_of(str(pin)) == PIN
    token.write_text("second-token")
    assert token_of(SecretStr(str(token))).get_secret_value() == "second-token"


@pytest.mark.parametrize("content", [None, "", " \n"], ids=["missing", "empty", "blank"])
def test_a_file_may_come_later(tmp_path: Path, content: str | None) -> None:
    """What is not there yet is a reason to try again, and it is said which file of which key is meant."""
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Unavailable, match=r"teleport\.auth_token: .*token (cannot be read|is empty)"):
        token_of(SecretStr(str(file)))
    with pytest.raises(Unavailable, match=r"teleport\.ca_pin: .*token (cannot be read|is empty)"):
        pin_of(str(file))


@pytest.mark.parametrize("content", [b"two words", b"\xff" * 20, b"x" * 5000], ids=["two", "binary", "long"])
def test_a_file_with_something_else_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    """Trying again would not help; the message names key and file, and shows nothing of a token."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(InvalidSettings, match=r"teleport\.auth_token: .*not shown: a secret") as refused:
        token_of(SecretStr(str(file)))
    assert "two words" not in str(refused.value)
    with pytest.raises(InvalidSettings, match=r"teleport\.ca_pin: .*expected SHA256"):
        pin_of(str(file))
