"""What auth tells of a TrustedCluster in `public/trusted/NAME`: whether it is trusted, and why not."""

from __future__ import annotations

from enum import StrEnum

from runtime.core.keys import PUBLIC
from runtime.core.resources.model import Model

PREFIX = f"{PUBLIC}/trusted/"


class TrustReason(StrEnum):
    """Why it is so, in one word; fit for a condition of Kubernetes."""

    TRUSTED = "Trusted"
    DISABLED = "Disabled"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a word, no password
    OWN_NAME = "OwnName"
    """A cluster cannot trust itself."""
    KEYS_INVALID = "KeysInvalid"
    """What is pinned is no export of that cluster's authorities, or holds keys that are another's."""
    PENDING = "Pending"
    UNREACHABLE = "Unreachable"
    PROXY_NOT_TRUSTED = "ProxyNotTrusted"
    """Its HTTPS certificate is trusted neither by this machine nor by the pin."""
    PIN_MISMATCH = "PinMismatch"
    NAME_MISMATCH = "NameMismatch"
    """Who answers is another cluster than the document names."""
    NAME_TAKEN = "NameTaken"
    """The root knows another cluster by this one's name."""
    TOKEN_REFUSED = "TokenRefused"  # noqa: S105 - a word, no password
    CA_REPLACED = "CAReplaced"
    """It has replaced an authority in an emergency: the old one has ended, and leads to no other."""
    REFUSED = "Refused"


class TrustStatus(Model):
    """How it stands with one TrustedCluster. `fingerprints` are its authorities', as `ssh-keygen -l` shows keys."""

    reason: TrustReason
    message: str
    fingerprints: tuple[str, ...] = ()
    digest: str = ""
    """Of what the Secret held for which this was found (`TrustMeans.digest`)."""

    @property
    def trusted(self) -> bool:
        """Whether its authorities are believed now."""
        return self.reason is TrustReason.TRUSTED
