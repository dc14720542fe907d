"""The manual's transcripts of tctl, run: what is printed is what is printed there, blank for blank where it can be.

What differs is put in by hand and named: tokens, keys and addresses are random here, and the manual lost some of its
addresses. It writes the labels of nodes as `distro:ubuntu` in one table and as `kernel=3.19.0-56` in the next; ours are
of the second form.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pyotp
import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Heartbeat, Presence
from runtime.api.people_messages import SignupQuery, SignupRequest
from runtime.core.callers import CallerKind
from tests.servers.auth_port import CLOCK
from tests.servers.auth_thread import STATIC, AuthThread, auth_thread


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[AuthThread]:
    """Yield a running auth service with a static token for proxies, as the manual's."""
    with auth_thread(tmp_path) as auth:
        yield auth


def shell(auth: AuthThread, line: str) -> str:
    """Return what a line of a transcript prints."""
    words = line.removeprefix("$ tctl ").split()
    outcome = auth.tctl(*words)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def cells(text: str) -> list[list[str]]:
    """Return the rows of a table that has two blanks or more between its columns."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]


def sign_up(auth: AuthThread, token: str) -> None:
    """Complete an invite, as a person at the page of its URL does."""

    async def work(proxy: AuthClient) -> None:
        query = {"token": token, "address": "192.0.2.1"}
        form = await proxy.call(methods.SIGNUP_SHOW, SignupQuery.model_validate(query))
        totp = pyotp.parse_uri(form.otp_uri)
        assert isinstance(totp, pyotp.TOTP)
        typed = {"password": "correct horse battery", "otp": totp.at(CLOCK.now())}
        await proxy.call(methods.SIGNUP_COMPLETE, SignupRequest.model_validate({**query, **typed}))

    auth.local(CallerKind.PROXY, str(auth.identity(CallerKind.PROXY).id), work)


def online(auth: AuthThread, node: str, name: str, addr: str, labels: Mapping[str, str]) -> None:
    """Send a node's heartbeat."""

    async def work(client: AuthClient) -> None:
        presence = Presence(id=UUID(node), kind=CallerKind.NODE, name=name, addr=addr, labels=dict(labels))
        await client.call(methods.HEARTBEAT, Heartbeat(presence=presence))

    auth.local(CallerKind.NODE, node, work)


# --- "Adding and Deleting Users" ---------------------------------------------------------------------------------

INVITED = """\
Signup token has been created and is valid for 3600 seconds. Share this URL with the user:
https://<proxy>:3080/web/newuser/TOKEN

NOTE: make sure the <proxy> host is accessible.
"""
USERS = """
User           Allowed to Login as
----           -------------------
admin          admin,root
ross           ross
joe            joe,root
"""


def test_users_add(auth: AuthThread) -> None:
    """The URL is printed with the words of "Permissions with Trusted Clusters", which say how long it is good for."""
    out = shell(auth, "$ tctl users add joe joe,root")
    assert re.sub(r"[0-9a-f]{32}", "TOKEN", out) == INVITED


def test_users_ls(auth: AuthThread) -> None:
    """Who has signed up is listed with the manual's columns; the manual's rows are in no order, ours by name.

    Its first column is wider by hand than its cells and the five blanks of all its other tables make it.
    """
    for line in ("admin admin,root", "ross", "joe joe,root"):
        (token,) = re.findall(r"[0-9a-f]{32}", shell(auth, f"$ tctl users add {line}"))
        sign_up(auth, token)
    shell(auth, "$ tctl users add invited")
    ours, theirs = cells(shell(auth, "$ tctl users ls")), cells(USERS)
    assert ours[:2] == theirs[:2]
    assert sorted(ours) == sorted(theirs)


def test_users_del(auth: AuthThread) -> None:
    """Deleting a user says so, and the user is gone."""
    shell(auth, "$ tctl users add jsmith")
    assert shell(auth, "$ tctl users del jsmith") == "User 'jsmith' has been deleted\n"
    assert "jsmith" not in shell(auth, "$ tctl users ls --all")


# --- "Short-lived Tokens" ----------------------------------------------------------------------------------------

NODES_ADD = """\
The invite token: 24be3e582c3805621658225f8c841d2002
Run this on the new node to join the cluster:
> teleport start --roles=node,proxy --token=24be3e582c3805621658225f8c841d2002 --auth-server=AUTH CA_PIN

Please note:
  - This invitation token will expire in 5 minutes
  - AUTH must be reachable from the new node, see --advertise-ip server flag
  - For tokens of type "trustedcluster", tctl needs to be used to create a TrustedCluster resource. \
See the Admin Guide for more details.
"""
NODES = """\
Node Name     Node ID                                  Address            Labels
---------     -------                                  -------            ------
dijkstra      c9093fd9-3333-41d3-9999-c9093fd98f43     10.1.0.6:3022      distro=debian
turing        d52527f9-b260-41d0-bb5a-e23b0cfe0f8f     10.1.0.15:3022     distro=ubuntu
"""
LABELLED = """\
Node Name     Node ID                                  Address            Labels
---------     -------                                  -------            ------
turing        d52527f9-b260-41d0-bb5a-e23b0cfe0f8f     10.1.0.15:3022     kernel=3.19.0-56,uptime=up 1 hour, 15 minutes
"""


def test_nodes_add(auth: AuthThread) -> None:
    """The command to run is printed, with --ca-pin, which the manual does not have: it keeps a token from strangers."""
    line = "$ tctl nodes add --ttl=5m --roles=node,proxy"
    out = shell(auth, f"{line} --token=24be3e582c3805621658225f8c841d2002")
    assert re.sub(r"--ca-pin=SHA256:\S{43}", "CA_PIN", out).replace(auth.address, "AUTH") == NODES_ADD
    assert re.match(r"The invite token: [0-9a-f]{32}\n", shell(auth, line))


def test_nodes_ls(auth: AuthThread) -> None:
    """Nodes that send heartbeats are listed, in the manual's layout, by name."""
    online(auth, "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f", "turing", "10.1.0.15:3022", {"distro": "ubuntu"})
    online(auth, "c9093fd9-3333-41d3-9999-c9093fd98f43", "dijkstra", "10.1.0.6:3022", {"distro": "debian"})
    assert shell(auth, "$ tctl nodes ls") == NODES


def test_nodes_ls_with_labels(auth: AuthThread) -> None:
    """Labels of commands stand beside each other ("Labeling Nodes")."""
    labels = {"uptime": "up 1 hour, 15 minutes", "kernel": "3.19.0-56"}
    online(auth, "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f", "turing", "10.1.0.15:3022", labels)
    assert shell(auth, "$ tctl nodes ls") == LABELLED


# --- "Revoking Invitations" --------------------------------------------------------------------------------------

TOKENS = """\
Token                                Role       Expiry Time (UTC)
-----                                ----       -----------------
eoKoh0caiw6weoGupahgh6Wuo7jaTee2     Proxy      never
696c0471453e75882ff70a761c1a8bfa     Node       17 May 16 03:51 UTC
6fc5545ab78c2ea978caabef9dbd08a5     Signup     17 May 16 04:24 UTC
"""


def test_tokens_ls_and_del(auth: AuthThread) -> None:
    """Static, node and sign-up tokens are listed as in the manual; the latter two can be deleted."""
    earliest = CLOCK.now().replace(second=0, microsecond=0)
    shell(auth, "$ tctl nodes add --ttl=5m --token=696c0471453e75882ff70a761c1a8bfa")
    (signup,) = re.findall(r"[0-9a-f]{32}", shell(auth, "$ tctl users add joe"))
    out = shell(auth, "$ tctl tokens ls")
    for ttl, shown in ((timedelta(minutes=5), "17 May 16 03:51 UTC"), (timedelta(hours=1), "17 May 16 04:24 UTC")):
        for late in (timedelta(), timedelta(minutes=1)):
            out = out.replace(f"{earliest + ttl + late:%d %b %y %H:%M UTC}", shown)
    assert out.replace(signup, "6fc5545ab78c2ea978caabef9dbd08a5") == TOKENS

    deleted = shell(auth, "$ tctl tokens del 696c0471453e75882ff70a761c1a8bfa")
    assert deleted == "Token 696c0471453e75882ff70a761c1a8bfa has been deleted\n"
    shell(auth, f"$ tctl tokens del {signup}")
    assert cells(shell(auth, "$ tctl tokens ls"))[2:] == [[STATIC.token, "Proxy", "never"]]


# --- "Trusted Clusters", "Using OpenSSH Client", "Integrating with OpenSSH Servers" ------------------------------

AUTHORITIES = """\
CA keys for the local cluster main:

CA Type     Fingerprint
-------     -----------
user        xxxxxxxxxxxxxxx
host        zzzzzzzzzzzzzzz

CA Keys for Trusted Clusters:

Cluster Name     CA Type     Fingerprint     Allowed Logins
------------     -------     -----------     --------------
"""


def test_auth_ls(auth: AuthThread) -> None:
    """Both authorities of the cluster are listed; trusted clusters come with their own work."""
    out = re.sub(r"(?<=user        )\S+", "xxxxxxxxxxxxxxx", shell(auth, "$ tctl auth ls"))
    assert re.sub(r"(?<=host        )\S+", "zzzzzzzzzzzzzzz", out) == AUTHORITIES


def fingerprint(line: str) -> str:
    """Return the fingerprint that the real ssh-keygen gives the key in a line."""
    (key,) = re.findall(r"ssh-ed25519 \S+", line)
    command = ["ssh-keygen", "-l", "-f", "-"]
    done = subprocess.run(command, input=key, capture_output=True, text=True, timeout=30, check=True)
    return str(done.stdout.split()[1])


def test_auth_export(auth: AuthThread) -> None:
    """The host CA goes to known_hosts, the user CA to authorized_keys, and with --compat=1.0 to known_hosts as well."""
    listed = dict(re.findall(r"^(user|host)\s+(SHA256:\S+)$", shell(auth, "$ tctl auth ls"), re.MULTILINE))
    both = shell(auth, "$ tctl auth export")
    host = shell(auth, "$ tctl auth --type=host export")
    user = shell(auth, "$ tctl auth --type=user export")
    assert both == user + host
    assert host.startswith("@cert-authority *.main,main ssh-ed25519 ")
    assert user.startswith("cert-authority ssh-ed25519 ")
    old = shell(auth, "$ tctl auth export --compat=1.0")
    assert [line.split()[0] for line in old.splitlines()] == ["@cert-authority", "@cert-authority"]
    assert {"host": fingerprint(host), "user": fingerprint(user)} == listed


# --- "Permissions with Trusted Clusters" -------------------------------------------------------------------------

ROLES = """\
Role            Allowed to login as     Namespaces     Node Labels     Access to resources
----            -------------------     ----------     -----------     -------------------
user:jsmith     root,jsmith             default        <all nodes>     \
auth_server:read,cert_authority:read,node:read,role:read,session:read,tunnel:read
"""


def test_get_roles(auth: AuthThread) -> None:
    """A user that is deleted and added with other logins has them in its role; `ca:` roles come with their work."""
    shell(auth, "$ tctl users add jsmith")
    assert shell(auth, "$ tctl users del jsmith") == "User 'jsmith' has been deleted\n"
    out = shell(auth, "$ tctl users add jsmith root,jsmith")
    assert out.startswith(
        "Signup token has been created and is valid for 3600 seconds. Share this URL with the user:\n"
    )
    assert shell(auth, "$ tctl get roles") == ROLES
