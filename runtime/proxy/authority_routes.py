"""Whom tsh may believe, now: the keys change while somebody is logged in, as one rotation of the authorities goes by.

    GET /webapi/authorities
        → {"cluster": "main", "authorities": [{"cluster", "type": "user" | "host", "keys": ["ssh-ed25519 …"]}]}

The cluster's own keys are nobody's secret. Which clusters are behind it is for people of the cluster: the host
authorities of these are in the answer to a signed request (`runtime.proxy.signed`).
"""

from __future__ import annotations

from aiohttp import web

from runtime.api.signed import AUTHORIZATION_HEADER
from runtime.proxy.cluster import ClusterView
from runtime.proxy.signed import SignedRequests

PATH = "/webapi/authorities"


class AuthorityRoutes:
    """Answers for one cluster."""

    def __init__(self, view: ClusterView, signed: SignedRequests) -> None:
        self._view = view
        self._signed = signed

    def add(self, app: web.Application) -> None:
        """Serve it."""
        app.router.add_get(PATH, self.all, allow_head=False)

    async def all(self, request: web.Request) -> web.Response:
        """Tell the keys that are believed now. Raises as `ClusterLists` does for a person who signed."""
        found = [*self._view.authorities()]
        if AUTHORIZATION_HEADER in request.headers:
            self._signed.person(request)
            found += self._view.others.authorities()
        told = [authority.model_dump(mode="json") for authority in found]
        return web.json_response({"cluster": self._view.name, "authorities": told})
