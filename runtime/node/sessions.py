"""One session: a shell, a command or a file transfer as the login user, between a channel and a child of the spawner.

    requested   access is decided anew, and a task is started; the client hears at once that it may send
    starting    the spawner makes the child; input waits in its sink
    running     bytes pass in both directions, each held up by whoever is slower
    ending      the child has ended, and what it wrote has arrived: the exit code is told, and the channel closes

As with sshd, a grandchild that still has the child's pipes open keeps the session open, for its output goes to the
client; a terminal ends with the shell in it, whoever else still has it open.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from runtime.audit.log import Audit
from runtime.core.access import Grant
from runtime.core.errors import AccessDenied, TeleportError
from runtime.core.session_access import Owned
from runtime.node import events, programs, transfer
from runtime.node.agent import SessionAgent
from runtime.node.authority import NodeAccess
from runtime.node.environment import ClientVariables, session_environment
from runtime.node.idleness import Idleness
from runtime.node.party import Party
from runtime.node.recording import Recordings
from runtime.node.registry import Running
from runtime.node.session_log import FAILED, SessionLog
from runtime.node.spawner import SIGNALS, Child, Exit, Program, Spawner
from runtime.node.streams import Streams
from runtime.node.window import Window
from runtime.pki.identity import UserIdentity
from runtime.transport.capture import Proved
from runtime.transport.sessions import SessionChannel, SessionHandler, SessionRequest, TerminalSize

logger = logging.getLogger(__name__)

COPY_REFUSED = 1
"""Exit code of a copy that was not begun: scp's own for its errors."""


@dataclass(frozen=True, slots=True)
class Node:
    """What all sessions of a node have in common."""

    cluster: str
    host_id: str
    access: NodeAccess
    spawner: Spawner
    audit: Audit
    recordings: Recordings
    running: Running


class Session(SessionHandler):
    """One session, from what was asked for to its end: its channel is the owner's, and others may join (`Party`)."""

    def __init__(
        self,
        node: Node,
        proved: Proved[UserIdentity],
        channel: SessionChannel,
        *,
        variables: ClientVariables,
        agent: SessionAgent,
        left: Callable[[], None],
    ) -> None:
        """Take whose it is, and what the client has set; `left` is called once when the channel is gone."""
        self.gone = asyncio.Event()
        """Set when the channel is gone."""
        self.id = str(uuid.uuid4())
        self._node = node
        self._proved = proved
        self._agent = agent
        self._left = left
        self._variables = variables
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._grant: Grant
        self._task: asyncio.Task[None] | None = None
        self._child: Child | None = None
        self._streams = Streams(
            congested=self._congested, output=self._output, error_output=self._error_output, ended=self._outputs_ended
        )
        self._size: TerminalSize | None = None
        """The owner's terminal; None without one."""
        self._window: Window | None = None
        self._party: Party | None = None
        self._log = SessionLog(self.id, proved, node.host_id, node.audit, unrecorded=self.end)
        self._idleness = Idleness(self.end)
        self._transcript: transfer.Transcript | None = None
        self._why = ""
        """Why we ended it ourselves."""

    # --- what the client asks for ------------------------------------------------------------------------------

    def requested(self, request: SessionRequest) -> bool:
        """Begin; what then fails is told on the session's stderr."""
        if not programs.is_known(request):
            return False
        self._task = asyncio.create_task(self._run(request))
        self._task.add_done_callback(self._finished)
        return True

    def received(self, data: bytes) -> None:
        """Pass on what the owner types."""
        if self._party is not None:
            self._party.typed(len(data))
        self._enter(data)

    def _enter(self, data: bytes) -> None:
        """Pass input on. All input of a session passes here."""
        self._idleness.touch()
        self._streams.write(data)

    def input_ended(self) -> None:
        """Let the child see the end of its input; a terminal has none."""
        self._streams.end_input()

    def resized(self, size: TerminalSize) -> None:
        """Tell the child, unless others who take part have less room."""
        if self._size is not None:
            self._size = size
        if self._party is not None:
            self._party.resized(None, size)

    def signalled(self, name: str) -> None:
        """Pass a signal on (RFC 4254 §6.9)."""
        if self._child is not None:
            try:
                self._child.send_signal(name)
            except TeleportError as error:
                logger.info("session %s: signal %.32r: %s", self.id, name, error)

    def writable(self, yes: bool) -> None:
        """Read from the child only while the client takes it."""
        self._streams.writable(yes)

    def closed(self) -> None:
        """Let go of the child: its terminal hangs up, its pipes close."""
        self._close_pipes()
        self._agent.close()
        self._idleness.stop()
        self._end_party(f"the session has ended: {self._proved.identity.user}, whose it is, has gone")
        self.gone.set()
        self._left()

    def warn(self, text: str) -> None:
        """Tell the people at the terminal, if there is one."""
        if self._size is not None:
            self.tell(text)
        if self._party is not None:
            self._party.tell_guests(text)

    async def over(self) -> None:
        """Wait until all has been told of the session, once its channel is gone."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def end(self, why: str) -> None:
        """End the session from this side, and tell the person why."""
        if self._why:
            return
        self._why = why
        self.tell(why)
        self._end_party(why)
        self._close_pipes()
        self._channel.exit(FAILED)

    # --- its life -----------------------------------------------------------------------------------------------

    async def _run(self, asked: SessionRequest) -> None:
        if (begun := await self._begin(asked)) is None:
            return
        program, self._child = begun
        self._streams.connect(self._child, wanted=not (self.gone.is_set() or self._why))  # it may have taken too long
        if self._size is not None and self._log.terminal is not None:
            self._begin_party(self._child, self._log.terminal.size)
            self.resized(self._size)  # it may be another by now
        interactive = program.terminal is not None or program.kind == "shell"
        self._node.running.enter(
            self.id,
            user=self._proved.identity.user,
            login=self._proved.login,
            command=events.text(program.command) or ("" if program.kind == "shell" else program.kind),
            interactive=interactive,
            end=self.end,
            party=self._party,
        )
        if interactive:
            self._log.started()
        self._node.running.remember(self.id, self._log.ends(program, interactive=interactive))
        self._idleness.watch(self._grant.idle_timeout)
        exited = await self._end_of(self._child)
        self._end_party("the session has ended")
        # Before the client is told: whose end somebody has seen, the log has it, whatever is killed in this moment.
        self._log.ended(program, exited or Exit(FAILED), self._why, interactive=interactive)
        self._node.running.leave(self.id)
        if exited is not None:
            self._tell_end(exited)

    async def _begin(self, asked: SessionRequest) -> tuple[Program, Child] | None:
        """Return what runs; None if it may or can not, of which log and client have been told."""
        proved = self._proved
        try:
            self._grant = self._node.access.authorise(proved.identity, proved.login)
        except AccessDenied as error:
            self._fail(error)
            return None
        request = programs.enforced(asked, proved.identity)
        try:
            copy = programs.copy_of(request, self._grant)
        except TeleportError as error:
            protocol = "sftp" if request.kind == "subsystem" else "scp"
            self._log.copied(transfer.refused(protocol, error, request.command))
            self._channel.write_error(transfer.refusal(error))
            self._channel.exit(COPY_REFUSED)
            return None
        if copy is not None:
            self._transcript = transfer.Transcript(self._log.copied)
        program = programs.program_of(asked, request, copy, login=proved.login, environment=self._environment())
        if program.terminal is not None and request.terminal is not None:
            self._size, self._log.terminal = request.terminal.size, request.terminal
        try:
            if copy is None:
                self._log.record(self._node.recordings, program)
            return program, await self._node.spawner.run(program)
        except TeleportError as error:
            self._fail(error)
            return None

    def _environment(self) -> dict[str, str]:
        proved, node = self._proved, self._node
        told = session_environment(
            session=self.id,
            user=proved.identity.user,
            cluster=node.cluster,
            host_id=node.host_id,
            peer=proved.peer,
            local=proved.local,
        )
        agent = {"SSH_AUTH_SOCK": self._agent.path} if self._agent.path is not None else {}
        return {**self._variables.all(), **told, **agent}

    async def _end_of(self, child: Child) -> Exit | None:
        """Wait until the session is over, and return how the child ended; None if nobody knows.

        The session is over once the child has ended and what it wrote has arrived; or once the channel is gone, and a
        child that this does not end goes on by itself.
        """
        gone, ended = asyncio.create_task(self.gone.wait()), asyncio.create_task(self._streams.drained(child))
        try:
            await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._why = self._why or "the client has gone"
                return None
            return ended.result()
        except TeleportError as error:  # the spawner is gone
            logger.error("session %s of %s: %s", self.id, self._log.who, error)  # noqa: TRY400 - no bug here
            self.end(str(error))
            return None
        finally:
            gone.cancel()
            ended.cancel()
            self._idleness.stop()

    def _tell_end(self, exited: Exit) -> None:
        """Tell the client how the child ended."""
        if exited.signal is None:
            self._channel.exit(exited.code if exited.code is not None else FAILED)
        else:
            # RFC 4254 §6.10: names that are not in it have an @.
            name = exited.signal if exited.signal in SIGNALS else f"{exited.signal}@teleport.internal"
            self._channel.exit_signal(name, core=exited.core)

    def _close_pipes(self) -> None:
        """Let go of the child. What a copy tells of is heard to its end."""
        self._streams.close(hear_last=self._transcript is not None)

    def _outputs_ended(self) -> None:
        if self._transcript is not None:
            self._transcript.close()

    def _output(self, data: bytes) -> None:
        """Record output and pass it on. All output of a session passes here, or in `_error_output`."""
        if self._transcript is not None:
            self._idleness.touch()  # a long download has no input, and is not idle
        if self._log.printed(data):
            self._channel.write(data)
            if self._party is not None:
                self._party.printed(data)

    def _error_output(self, data: bytes) -> None:
        if not self._log.printed(data):
            return
        shown = self._transcript.feed(data) if self._transcript is not None else data
        if not self.gone.is_set():
            self._channel.write_error(shown)

    def _congested(self, yes: bool) -> None:
        (self._channel.pause_reading if yes else self._channel.resume_reading)()
        if self._party is not None:
            self._party.congested(yes)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._node.running.leave(self.id)
        if not task.cancelled() and (error := task.exception()):
            logger.error("session %s failed", self.id, exc_info=error)
            self._channel.abort()

    # --- others in it ------------------------------------------------------------------------------------------

    def _begin_party(self, child: Child, size: TerminalSize) -> None:
        """Let others join from now on."""

        def resize(size: TerminalSize) -> None:
            if self._streams.open:
                child.resize(*size)

        self._window = self._log.terminal = Window(size, resize=resize, log=self._log.resized)
        self._party = Party(
            Owned(self._proved.identity.user, self._proved.login),
            size,
            window=self._window,
            log=self._log,
            tell=self.tell,
            enter=self._enter,
            later=self._loop.call_later,
        )

    def _end_party(self, why: str) -> None:
        if self._party is not None and self._window is not None:
            self._party.close(why)
            self._window.close()

    # --- what is told -------------------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """Say something to the owner."""
        self._channel.write_error(f"teleport: {text}\r\n".encode(errors="backslashreplace"))

    def _fail(self, error: TeleportError) -> None:
        """Tell that there will be no session."""
        self._log.rejected(error)
        self.tell(error.in_full)
        self._channel.exit(FAILED)
