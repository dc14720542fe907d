"""How tctl reaches auth: the identity that auth keeps in its data_dir, or one that was signed for use elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.core import defaults
from runtime.core.errors import AccessDenied, CorruptState, InvalidInput, InvalidSettings, NotFound, Unavailable

if TYPE_CHECKING:
    from runtime.api.client import AuthClient
    from runtime.api.cluster_messages import AuthorityKeys
    from runtime.api.messages import Message
    from runtime.api.methods import Method
    from runtime.core.clock import Clock
    from runtime.service.identity import StoredIdentity

    Params = TypeVar("Params", bound=Message)
    Result = TypeVar("Result", bound=Message)

T = TypeVar("T")
C = TypeVar("C", bound=click.Command)
F = TypeVar("F", bound=Callable[..., Any])  # Any: a command's parameters are click's business

ADMIN_IDENTITY = "admin.identity"
"""In data_dir: written by `teleport start` where auth runs."""
_ANYWHERE_HINT = "Or use an identity from there (tctl auth sign): --identity=FILE --auth-server=HOST:3025."
_AWAY_HINT = "See that teleport runs there with the role auth, and that its port can be reached from here."


@dataclass(slots=True)
class Where:
    """What the command line says of auth; None or empty where it says nothing."""

    config: str | None = None
    identity: str | None = None
    auth_server: tuple[str, ...] = ()


def connecting(command: C) -> C:
    """Give a command the options that say how auth is reached. The same options after a subcommand win."""
    command.params = [*command.params, *_options()]
    return command


def ask(method: Method[Params, Result], params: Params) -> Result:
    """Call one method of auth and return its result. Raises what auth raises, Unavailable, AccessDenied, NotFound."""

    async def one(auth: AuthClient) -> Result:
        return await auth.call(method, params)

    return with_auth(one)


def with_auth(work: Callable[[AuthClient], Awaitable[T]]) -> T:
    """Do work that calls auth several times over one connection, and return its result."""
    import asyncio

    from runtime.core.clock import SystemClock
    from runtime.service.member import auth_client

    where = click.get_current_context().find_root().ensure_object(Where)
    clock = SystemClock()
    identity, servers = reach(where, clock)

    def believe(authorities: tuple[AuthorityKeys, ...]) -> None:
        # For this command: who made the file keeps it, and it proves the next time what it has proved now.
        nonlocal identity
        identity = identity.believing(authorities)

    async def do() -> T:
        client = auth_client(lambda: identity, servers, clock, believe=believe)
        try:
            return await work(client)
        except Unavailable as error:
            raise Unavailable(str(error), hint=error.hint or _AWAY_HINT) from error
        finally:
            await client.close()

    return asyncio.run(do())


def reach(where: Where, clock: Clock) -> tuple[StoredIdentity, Callable[[], Sequence[str]]]:
    """Return the identity to use and the addresses of auth servers.

    With both options nothing else is read; otherwise teleport.yaml says where auth and its data_dir are. Raises
    NotFound, AccessDenied for an identity that may not be read or is over, InvalidSettings, CorruptState.
    """
    if where.identity is not None and where.auth_server:
        return _identity(Path(where.identity), clock), lambda: where.auth_server
    from runtime.service.flags import Flags
    from runtime.service.identity import DataDir
    from runtime.service.load import load_settings
    from runtime.service.member import AuthServers

    try:
        settings = load_settings(Flags(config=where.config))
    except InvalidSettings as error:
        raise InvalidSettings(str(error), hint="Name the auth server's teleport.yaml with --config.") from error
    data_dir = DataDir(Path(settings.teleport.data_dir))
    if where.identity is not None:
        identity = _identity(Path(where.identity), clock)
    else:
        identity = _identity(data_dir.path / ADMIN_IDENTITY, clock, local=True)
    if where.auth_server:
        return identity, lambda: where.auth_server
    auth = settings.auth_service
    here = (_dialable(auth.listen_addr.host, auth.listen_addr.port),) if auth.enabled else ()
    elsewhere = tuple(f"{_bracketed(peer.host)}:{peer.port}" for peer in settings.teleport.auth_servers)
    try:
        heard_of = AuthServers(data_dir, elsewhere)()
    except OSError:  # somebody else's data_dir, and an identity of our own
        heard_of = elsewhere
    return identity, lambda: tuple(dict.fromkeys((*here, *heard_of)))


def _identity(path: Path, clock: Clock, *, local: bool = False) -> StoredIdentity:
    from runtime.core.callers import CallerKind
    from runtime.service.identity import read_identity

    try:
        identity = read_identity(path)
    except FileNotFoundError:
        hint = f"Run tctl where auth runs, once teleport start has made it. {_ANYWHERE_HINT}"
        raise NotFound(f"there is no identity {path}", hint=hint if local else "Check the path.") from None
    except PermissionError as error:
        hint = f"Run tctl as root: sudo tctl … {_ANYWHERE_HINT}" if local else "Run tctl as the file's owner."
        raise AccessDenied(f"the identity {path} cannot be read: {error.strerror}", hint=hint) from error
    except CorruptState as error:
        hint = "Restart teleport: it makes a new one." if local else "Have a new one made: tctl auth sign."
        raise CorruptState(str(error), hint=hint) from error
    except OSError as error:
        raise InvalidInput(f"the identity {path} cannot be read: {error.strerror}", hint="Check the path.") from error
    if identity.role is not CallerKind.ADMIN:
        raise AccessDenied(
            f"{path} is the identity of a {identity.role}, not of an administrator", hint="Make one: tctl auth sign."
        )
    if identity.expires <= clock.now():
        renew = "Restart teleport on this machine" if local else "Have a new one made with tctl auth sign"
        raise AccessDenied(
            f"the identity {path} expired on {identity.expires:%Y-%m-%d at %H:%M} UTC",
            hint=f"{renew}; or set the clock, if it is wrong.",
        )
    return identity


def _dialable(host: str, port: int) -> str:
    """Return where a listener on this machine answers: one on all addresses, at the loopback address."""
    return f"{_bracketed({'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host))}:{port}"  # noqa: S104 - not bound to


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _options() -> list[click.Parameter]:
    def remember(context: click.Context, parameter: click.Parameter, value: str | tuple[str, ...] | None) -> None:
        if value:
            setattr(context.find_root().ensure_object(Where), str(parameter.name), value)

    return [
        click.Option(
            ["-c", "--config"],
            metavar="FILE",
            expose_value=False,
            callback=remember,
            help=f"teleport.yaml of the auth server on this machine [default: {defaults.CONFIG_FILE}].",
        ),
        click.Option(
            ["--identity"],
            metavar="FILE",
            expose_value=False,
            callback=remember,
            help=f"Identity of an administrator [default: {ADMIN_IDENTITY} in data_dir].",
        ),
        click.Option(
            ["--auth-server"],
            metavar="HOST[:PORT]",
            multiple=True,
            expose_value=False,
            callback=remember,
            help="Auth server to call; may be given several times [default: the one on this machine].",
        ),
    ]
