"""A rotation of the authorities in a large cluster: how long until all members have followed, and what it costs auth.

`python -m tests.bench rotation [MEMBERS]`: 500 nodes, each a member as `teleport start` runs it, with a connection, a
key and a folder of its own; all in this one process, which the machine has to share with auth.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Presence
from runtime.api.messages import Nothing
from runtime.api.rotation_messages import RotateRequest
from runtime.auth.membership import public_keys
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.rotation import Phase
from runtime.pki.claims import HostClaims, MemberClaims, MemberRole
from runtime.pki.keys import generate_key
from runtime.pki.signing import random_serial, sign_host, sign_member
from runtime.service.authorities import AuthorityFollower
from runtime.service.identity import DataDir, StoredIdentity, read_identity
from runtime.service.member import AuthServers, Member, auth_client
from tests.servers.people import authorities_of
from tests.servers.teleport import Teleport

CLOCK = SystemClock()
PHASES = (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY)
LOGINS_AT_ONCE = 8
"""Below the ten unfinished logins from which on a port refuses some (MaxStartups)."""
LOOK_SECONDS = 0.25


def run(arguments: list[str]) -> None:
    """Print the table."""
    members = int(arguments[0]) if arguments else 500
    limits = {"max_connections": 3 * members, "max_users": 3 * members}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = {"teleport": {"connection_limits": limits, "log": {"output": "stderr", "severity": "INFO"}}}
        with Teleport(Path(folder, "auth"), config=config).start() as auth:
            asyncio.run(_rotate(auth, members, Path(folder)))


class _Counting(Member):
    """A member that notes when it has followed."""

    followed_at: float = 0.0

    def report(self, followed: Mapping[str, int]) -> None:
        """Note it, and report."""
        self.followed_at = time.perf_counter()
        super().report(followed)


async def _rotate(auth: Teleport, count: int, folder: Path) -> None:
    print(f"{count} members follow a rotation of both authorities, step by step")
    print(f"{'phase':<18}{'half':>8}{'all':>8}{'auth knows':>12}{'most in a second':>18}{'auth CPU':>10}")
    members = [_member(auth, identity, folder) for identity in await asyncio.to_thread(_identities, auth, count)]
    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []
        turns = asyncio.Semaphore(LOGINS_AT_ONCE)

        async def begin(member: Member) -> None:
            async with turns:
                await member.say_hello()
            tasks.extend(map(asyncio.create_task, (member.run(), AuthorityFollower(member).run())))
            stack.push_async_callback(member.auth.close)

        await asyncio.gather(*map(begin, members))
        stack.callback(lambda: [task.cancel() for task in tasks])
        client = auth_client(lambda: read_identity(auth.admin_identity), lambda: (auth.auth_address,), CLOCK)
        stack.push_async_callback(client.close)
        await _until_followed(client, count)
        for phase in PHASES:
            used, began = _cpu(auth.process.pid), time.perf_counter()
            await client.call(methods.AUTHORITIES_ROTATE, RotateRequest(phase=phase, manual=True))
            await _until_followed(client, count)
            known = time.perf_counter() - began
            times = sorted(member.followed_at - began for member in members)
            most = max(Counter(int(each) for each in times).values())
            cpu = _cpu(auth.process.pid) - used
            print(
                f"{phase:<18}{times[count // 2]:>6.1f} s{times[-1]:>6.1f} s{known:>10.1f} s{most:>18}{cpu:>8.1f} s",
                flush=True,
            )


async def _until_followed(client: AuthClient, count: int) -> None:
    """Wait until auth knows of all, and that they have followed."""
    while True:
        status = await client.call(methods.AUTHORITIES_ROTATION, Nothing())
        if all(each.members > count and not each.stragglers for each in status.authorities):
            return
        await asyncio.sleep(LOOK_SECONDS)


def _member(auth: Teleport, identity: StoredIdentity, folder: Path) -> _Counting:
    data_dir = DataDir(folder / str(identity.id))
    data_dir.open()
    presence = Presence(id=identity.id, kind=CallerKind.NODE, name=f"n{identity.id}", addr="127.0.0.1:3022")
    return _Counting(
        identity,
        data_dir=data_dir,
        servers=AuthServers(data_dir, [auth.auth_address]),
        presence=lambda: presence,
        advertised=(),
        clock=CLOCK,
    )


def _identities(auth: Teleport, count: int) -> list[StoredIdentity]:
    """Return what so many nodes would have that have joined."""
    authorities = authorities_of(auth)
    trusted, now, ttl = public_keys(authorities), CLOCK.now(), timedelta(hours=12)
    made = []
    for _ in range(count):
        key, host_id = generate_key(), uuid.uuid4()
        shown = HostClaims(host_id=str(host_id), role=MemberRole.NODE, name=f"n{host_id}", cluster="main", ttl=ttl)
        calling = MemberClaims(host_id=str(host_id), role=MemberRole.NODE, cluster="main", ttl=ttl)
        signer = authorities.host.signer
        made.append(
            StoredIdentity(
                id=host_id,
                role=CallerKind.NODE,
                cluster="main",
                key=SecretStr(key.to_openssh()),
                host_certificate=sign_host(
                    shown, key.public, signer=signer, now=now, serial=random_serial()
                ).line.decode(),
                member_certificate=sign_member(
                    calling, key.public, signer=signer, now=now, serial=random_serial()
                ).line.decode(),
                expires=now + ttl,
                authorities=trusted,
            )
        )
    return made


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
