"""What comes from the Secret of a TrustedCluster: written with the document, sealed, and shown to nobody."""

from __future__ import annotations

import json

from runtime.core.errors import InvalidInput
from runtime.core.resources import Resource, TrustedCluster
from runtime.core.resources.trusted_cluster import means_of
from runtime.pki.sealed_token import sealed


class Means:
    """Completes a document of kind TrustedCluster with what its Secret holds: what is given, else what it has."""

    def __init__(self, value: str | None, *, own: str, public: bytes = b"") -> None:
        """Take the text that `TrustedCluster.means_in` made, None for none, and the public half of the sealing key.

        `own` is the name of this cluster.
        """
        self._value = value
        self._own = own
        self._public = public

    def __call__(self, resource: Resource, before: Resource | None) -> Resource:
        """Return the resource as it is to be written over `before`; what is no trusted cluster, as it is.

        Raises InvalidInput for a cluster that would trust itself.
        """
        if not isinstance(resource, TrustedCluster):
            return resource
        if resource.name == self._own:
            raise InvalidInput(
                f"this cluster is called {resource.name} itself, and cannot trust itself",
                hint="A TrustedCluster bears the name of the root, and is applied to the leaf.",
            )
        known = resource.with_means(before.metadata.means if isinstance(before, TrustedCluster) else None)
        if self._value is None:
            return known
        try:
            return known.given(sealed(means_of(self._value), self._public, cluster=resource.name))
        except ValueError:
            raise InvalidInput("the Secret of the trusted cluster did not arrive as it should") from None


def without_token(content: bytes) -> bytes:
    """Return a stored TrustedCluster without the token that may lie with it, sealed or not."""
    try:
        data = json.loads(content)
        means = data["metadata"]["means"]
        if not [name for name in ("token", "box") if means.pop(name, None) is not None]:
            return content
    except (ValueError, KeyError, TypeError, AttributeError):
        return content
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
