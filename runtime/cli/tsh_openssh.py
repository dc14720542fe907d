"""The installed OpenSSH's configuration for one login: text first, then the files, then what is handed to ssh.

    ~/.tsh/keys/PROXY/known_hosts.CLUSTER       the host authorities of one cluster, for any name
    ~/.tsh/keys/PROXY/ssh_config.USER@CLUSTER   how ssh reaches that cluster's nodes, through the proxy

Both are made anew whenever they are used and differ (mode 0600, replaced in one step), so that any number of tsh may
run at once. `ssh -F` reads no other configuration: what stands in ~/.ssh/config does not change where tsh connects to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.cli.profile import Home, Profile
from runtime.core.defaults import NODE_SSH_PORT
from runtime.core.errors import InvalidInput, NotFound

HOP = "proxy.teleport.internal"
"""A name that is in every proxy's host certificate (`runtime.pki.claims.service_principal`): whichever proxy answers
at the address, it has to be one of this cluster."""

_RESERVED = ".teleport.internal"
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_UNQUOTABLE = re.compile(r"""["'\\$`\x00-\x1f\x7f]""")
_LOGIN = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
"""`runtime.core.resources.names.Login`."""

# ssh runs `exec sh -c '…' sh 'FILE' …` with the user's shell. %r, %h and %p are handed over as arguments, which no
# shell reads again. The inner ssh runs beside the shell, not in its place: only so there is somebody left to say what
# to do when the proxy is away, and the trap ends it the moment that the outer ssh hangs up. 255 is ssh's own failure.
_PROXY_COMMAND = (
    'exec 3<&0; ssh -F "$1" -l "$2" -s {hop} "proxy:$3:$4$5" <&3 3<&- & trap "kill $! 2>&-" HUP INT TERM; wait $!; '
    'code=$?; [ $code != 255 ] || echo "hint: The way through proxy {address} has ended, see above. '
    'Your login: tsh status. The nodes: tsh ls" >&2; exit $code'
)


def check_host(host: str) -> str:
    """Return the name if it can be a node's: a host name, a host id or an IP address. Raises InvalidInput.

    What passes holds nothing that a shell, ssh's configuration or its command line could read as anything else.
    """
    if _HOST.fullmatch(host) and not host.lower().endswith(_RESERVED):
        return host
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise InvalidInput(
            f"{host[:80]!a} cannot be the name of a node",
            hint="Names are made of letters, digits, `.`, `-` and `_`; the nodes there are: tsh ls",
        ) from None


def choose_login(asked: str | None, logins: tuple[str, ...], own_name: str) -> str:
    """Return whom to log in as: who is asked for, else one's own name, else the first of the certificate's logins.

    Raises InvalidInput when the certificate is not for that login.
    """
    if asked is None:
        return own_name if own_name in logins else logins[0]
    if asked not in logins or not _LOGIN.fullmatch(asked):
        raise InvalidInput(
            f"your certificate is not for login {asked[:64]!a}",
            hint=f"It is for {', '.join(logins)}. Logins are given by roles; after a change: tsh login",
        )
    return asked


@dataclass(frozen=True, slots=True)
class Configuration:
    """One login's way to one cluster's nodes: everything that the files say."""

    home: Path
    profile: Profile
    cluster: str
    login: str
    """Whom to log in as where nothing else is said."""

    @property
    def folder(self) -> Path:
        """Where the login's files are."""
        return self.home / "keys" / self.profile.proxy.name

    @property
    def path(self) -> Path:
        """The file for `ssh -F`."""
        return self.folder / f"ssh_config.{self.profile.user}@{self.cluster}"

    def known_hosts_path(self, cluster: str) -> Path:
        """Return the file with a cluster's host authorities."""
        return self.folder / f"known_hosts.{cluster}"

    def text(self) -> str:
        """Return the content of `path`. Raises InvalidInput when a path cannot be written there."""
        address = f"{self.profile.ssh_host or self.profile.proxy.host}:{self.profile.ssh_port}"
        command = _PROXY_COMMAND.format(hop=HOP, address=address)
        return "\n".join(
            [
                "# Made by tsh, and made anew when it is used: changes are lost. For plain ssh: tsh config",
                f"Host {HOP}",
                f"    HostName {self.profile.ssh_address}",
                f"    Port {self.profile.ssh_port}",
                f"    HostKeyAlias {HOP}",
                f"    UserKnownHostsFile {quoted(self.known_hosts_path(self.profile.cluster))}",
                "    GlobalKnownHostsFile /dev/null",
                "    StrictHostKeyChecking yes",
                "    ServerAliveInterval 15",
                f"Host * !{HOP}",
                f"    Port {NODE_SSH_PORT}",
                f"    User {self.login}",
                f"    ProxyCommand sh -c '{command}' sh {_in_command(self.path)} '%r' '%h' '%p' '{self.suffix}'",
                # One's own first: ssh writes into the first. Plain sshds behind the proxy are known by their keys.
                f"    UserKnownHostsFile ~/.ssh/known_hosts {quoted(self.known_hosts_path(self.cluster))}",
                "Host *",
                *self.identity_lines(),
                "    PreferredAuthentications publickey",
                "",
            ]
        )

    def block(self) -> str:
        """Return what plain ssh needs in ~/.ssh/config to reach the nodes as NODE.CLUSTER. Raises InvalidInput.

        Only files that outlive a login are named in it: it is good for the next login, too.
        """
        proxy = self.profile.proxy
        pattern = f"*.{self.cluster}"
        ways = dict.fromkeys((proxy.host, self.profile.ssh_address))
        except_proxy = "".join(f" !{host}" for host in ways if host.endswith(f".{self.cluster}"))
        return "\n".join(
            [
                f"# Nodes of cluster {self.cluster} through proxy {proxy}, as Teleport user {self.profile.user}:",
                f"#     ssh {self.login}@NODE{pattern[1:]}",
                "# and so for scp, sftp, rsync, Ansible and editors. Nothing of it changes with the next login.",
                "# `Permission denied (publickey)` after a while: the certificate has expired. See: tsh status",
                f"Host {pattern}{except_proxy}",
                f"    Port {NODE_SSH_PORT}",
                f"    User {self.login}",
                f"    ProxyCommand ssh -F {_in_command(self.path)} -l '%r' -s {HOP} 'proxy:%h:%p{self.suffix}'",
                f"    UserKnownHostsFile ~/.ssh/known_hosts {quoted(self.known_hosts_path(self.cluster))}",
                *self.identity_lines(),
                "",
            ]
        )

    def identity_lines(self) -> list[str]:
        """Return the lines that make ssh use this login's key and certificate, and no other."""
        key = self.folder / self.profile.user
        return [
            f"    IdentityFile {quoted(key)}",
            f"    CertificateFile {quoted(key.with_name(key.name + '-cert.pub'))}",
            "    IdentitiesOnly yes",
        ]

    @property
    def suffix(self) -> str:
        """What follows `proxy:HOST:PORT` in the subsystem's name."""
        return "" if self.cluster == self.profile.cluster else f"@{self.cluster}"


def known_hosts(profile: Profile, cluster: str) -> str:
    """Return lines that believe any host that the cluster's own authorities certify. Raises NotFound.

    `*` is right here and only here: ssh compares the name with those in the certificate besides, and the file is
    used for nothing but connections to this cluster.
    """
    keys = [key for each in profile.authorities if each.cluster == cluster for key in each.keys]
    if not keys:
        known = ", ".join(sorted({each.cluster for each in profile.authorities}))
        raise NotFound(
            f"proxy {profile.proxy} vouches for no cluster {cluster[:128]!a}",
            hint=f"Known since the login: {known}. After a change: tsh login",
        )
    return "".join(f"@cert-authority * {key} clustername={cluster}&type=host\n" for key in keys)


def write(home: Home, profile: Profile, cluster: str | None, login: str) -> Configuration:
    """Bring the files of one login for one cluster (None: the proxy's own) up to date.

    Raises NotFound for a cluster that the login does not know, InvalidInput for a folder that cannot be named in
    OpenSSH's files, TeleportError when they cannot be written.
    """
    # Absolute: ssh may be told to run somewhere else.
    made = Configuration(home.path.absolute(), profile, cluster or profile.cluster, login)
    texts = {made.known_hosts_path(each): known_hosts(profile, each) for each in (profile.cluster, made.cluster)}
    home.keep(texts | {made.path: made.text()})
    return made


def arguments(program: str, configuration: Configuration, options: Iterable[str], rest: Iterable[str]) -> list[str]:
    """Return a command line of ssh, scp or sftp that uses the configuration."""
    return [program, "-F", str(configuration.path), *options, *rest]


def quoted(path: Path) -> str:
    """Return a path as a value in ssh_config: blanks stay, nothing is expanded. Raises InvalidInput."""
    return f'"{_checked(path)}"'


def _in_command(path: Path) -> str:
    """Return a path as one word of a ProxyCommand, for ssh and then for a shell. Raises InvalidInput."""
    return f"'{_checked(path)}'"


def _checked(path: Path) -> str:
    text = str(path)
    if _UNQUOTABLE.search(text):
        raise InvalidInput(
            f"{text!a} cannot be named in OpenSSH's configuration: it holds a quote, a dollar, or a control character",
            hint="Set TELEPORT_HOME to another folder and log in again.",
        )
    return text.replace("%", "%%")
