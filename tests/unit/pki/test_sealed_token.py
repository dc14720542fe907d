"""The token of a TrustedCluster, sealed to auth in the record of its document."""

from __future__ import annotations

import pytest

from runtime.core.errors import InvalidInput
from runtime.core.resources.trusted_cluster import TrustMeans, means_of
from runtime.pki.sealed_token import sealed, token_in
from runtime.pki.sealing import SealingKey

KEY = SealingKey.new()
TOKEN = "0123456789abcdef"
MEANS = means_of(f'{{"caPin": "SHA256:x", "token": "{TOKEN}"}}')


def test_auth_alone_opens_it() -> None:
    """It is not in what is written; what else there is stays readable: a pin is no secret."""
    there = sealed(MEANS, KEY.public, cluster="main")
    assert TOKEN not in there.model_dump_json()
    assert (there.digest, there.ca_pin, there.token, there.has_token) == (MEANS.digest, "SHA256:x", None, True)
    assert token_in(there, KEY, cluster="main") == TOKEN
    with pytest.raises(InvalidInput, match="does not open"):
        token_in(there, SealingKey.new(), cluster="main")


def test_a_box_that_is_moved_does_not_open() -> None:
    """Who may write documents has another root's token shown nowhere else."""
    with pytest.raises(InvalidInput, match="TrustedCluster/other does not open"):
        token_in(sealed(MEANS, KEY.public, cluster="main"), KEY, cluster="other")


def test_what_holds_no_token() -> None:
    """Pinned keys are as they were, and what is spent is empty; a token of an earlier version can be read."""
    pinned = means_of('{"ca": "keys"}')
    assert sealed(pinned, KEY.public, cluster="main") == pinned
    assert token_in(pinned, KEY, cluster="main") is None
    assert token_in(MEANS, KEY, cluster="main") == TOKEN
    spent = sealed(MEANS, KEY.public, cluster="main").without_token()
    assert (spent, spent.has_token) == (TrustMeans(digest=MEANS.digest, ca_pin="SHA256:x"), False)
