"""An etcd with access control on: who may touch what is a matter of roles, and who calls is in the certificate."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from aetcd import rpc

from tests.contract.backend.etcd_certificates import CertificateAuthority
from tests.servers.etcd import Etcd

READ, WRITE = "READ", "READWRITE"


def enable_access_control(etcd: Etcd, authority: CertificateAuthority, users: Mapping[str, Mapping[str, str]]) -> None:
    """Make users, each with a role of its name, and switch access control on; what the role opens is by key prefix.

    The etcd has to demand client certificates of that authority: the user is the certificate's common name.
    """
    root = authority.issue("root")
    trust = grpc.ssl_channel_credentials(authority.cert.read_bytes(), root.key.read_bytes(), root.cert.read_bytes())
    with grpc.secure_channel(etcd.address, trust) as channel:
        auth = rpc.AuthStub(channel)
        for user, rights in {"root": {}, **users}.items():
            auth.UserAdd(rpc.AuthUserAddRequest(name=user, options=rpc.UserAddOptions(no_password=True)))
            auth.RoleAdd(rpc.AuthRoleAddRequest(name=user))
            auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=user, role=user))
            for prefix, kind in rights.items():
                permission = rpc.Permission(permType=kind, key=prefix.encode(), range_end=_end(prefix))
                auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name=user, perm=permission))
        auth.AuthEnable(rpc.AuthEnableRequest())


def _end(prefix: str) -> bytes:
    """Return the first key after those with the prefix, which ends in a slash."""
    assert prefix.endswith("/")
    return prefix[:-1].encode() + b"0"
