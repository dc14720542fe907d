"""The token of a TrustedCluster on its way to auth: sealed (`runtime.pki.sealing`) in the record of its document. Pure.

Who may read documents in the storage so has no use for it, and who moves a box to another document neither.
"""

from __future__ import annotations

from runtime.core.resources.trusted_cluster import TrustMeans
from runtime.pki.sealing import SealingKey, seal


def sealed(means: TrustMeans, public: bytes, *, cluster: str) -> TrustMeans:
    """Return what the Secret of the TrustedCluster `cluster` holds with the token sealed to that public key.

    Without a token in the clear it is as it was. Raises InvalidInput for what is no key.
    """
    if means.token is None:
        return means
    box = seal(public, means.token.encode(errors="surrogatepass"), about=_about(cluster))
    return means.model_copy(update={"token": None, "box": box})


def token_in(means: TrustMeans, key: SealingKey, *, cluster: str) -> str | None:
    """Return the token; None if there is none. Raises InvalidInput for a box that does not open here."""
    if means.box is None:
        return means.token
    return key.open(means.box, about=_about(cluster)).decode(errors="surrogatepass")


def _about(cluster: str) -> str:
    return f"TrustedCluster/{cluster}"
