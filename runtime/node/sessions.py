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
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from runtime.audit.events import EventType
from runtime.audit.log import Audit, Field
from runtime.core.access import Grant
from runtime.core.durations import format_duration
from runtime.core.errors import AccessDenied, TeleportError, Unavailable
from runtime.node import events, programs, transfer
from runtime.node.agent import SessionAgent
from runtime.node.authority import NodeAccess
from runtime.node.environment import ClientVariables, session_environment
from runtime.node.pipes import Sink, Source
from runtime.node.recording import Recordings, SessionRecording
from runtime.node.registry import Running
from runtime.node.spawner import SIGNALS, Child, Exit, Program, Spawner
from runtime.pki.identity import UserIdentity
from runtime.transport.capture import Proved
from runtime.transport.sessions import SessionChannel, SessionHandler, SessionRequest, TerminalSize

logger = logging.getLogger(__name__)

FAILED = 255
"""Exit code of a session that we could not start, or ended: ssh's own for its failures."""
RESIZE_SECONDS = 0.5
"""How often at most the audit log is told of a terminal's size."""
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
    """One session channel, from its opening to its end."""

    def __init__(
        self, node: Node, proved: Proved[UserIdentity], *, agent: SessionAgent, left: Callable[[Session], None]
    ) -> None:
        """Take whose it is; `left` is called once when the channel is gone."""
        self.gone = asyncio.Event()
        """Set when the channel is gone."""
        self.id = str(uuid.uuid4())
        self._node = node
        self._proved = proved
        self._agent = agent
        self._left = left
        self._variables = ClientVariables()
        self._loop = asyncio.get_running_loop()
        self._channel: SessionChannel
        self._grant: Grant
        self._task: asyncio.Task[None] | None = None
        self._child: Child | None = None
        self._sink = Sink(self._congested)
        self._sources: list[Source] = []
        self._outputs_over = asyncio.Event()
        self._writable = True
        self._size: TerminalSize | None = None
        self._recording = SessionRecording(None, strict=False)
        self._logged: TerminalSize | None = None
        self._resized: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._last_input = 0.0
        self._transcript: transfer.Transcript | None = None
        self._open_sources = 0
        self._why = ""
        """Why we ended it ourselves."""

    # --- what the client asks for ------------------------------------------------------------------------------

    def opened(self, channel: SessionChannel) -> None:
        """Keep the channel."""
        self._channel = channel

    def variable(self, name: bytes, value: bytes) -> bool:
        """Take a variable of the allow-list."""
        return self._variables.take(name, value)

    def terminal_permitted(self) -> bool:
        """Tell what the certificate says."""
        return self._proved.identity.permit_pty

    async def agent_requested(self) -> bool:
        """Make a socket that leads to the client's agent, if that is allowed."""
        return await self._agent.request()

    def requested(self, request: SessionRequest) -> bool:
        """Begin; what then fails is told on the session's stderr."""
        if not programs.is_known(request):
            return False
        self._task = asyncio.create_task(self._run(request))
        self._task.add_done_callback(self._finished)
        return True

    def received(self, data: bytes) -> None:
        """Pass input on. All input of a session passes here."""
        self._last_input = self._loop.time()
        self._sink.write(data)

    def input_ended(self) -> None:
        """Let the child see the end of its input; a terminal has none."""
        self._sink.end()

    def resized(self, size: TerminalSize) -> None:
        """Tell the child, and the audit log."""
        if self._size is None or size == self._size:
            return
        self._size = size
        if self._child is not None and self._sources[0].open:
            self._child.resize(*size)
            if self._resized is None:
                self._log_size()

    def _log_size(self) -> None:
        """Tell the audit log of the size; then of no other for a while: a mouse makes dozens."""
        self._resized = None
        if self._size == self._logged:
            return
        self._logged = self._size
        self._resized = self._loop.call_later(RESIZE_SECONDS, self._log_size)
        self._emit(EventType.RESIZE, **self._sized())
        try:
            self._recording.event(EventType.RESIZE, self._sized())
        except Unavailable as error:
            self.end(_unrecorded(error))

    def signalled(self, name: str) -> None:
        """Pass a signal on (RFC 4254 §6.9)."""
        if self._child is not None:
            try:
                self._child.send_signal(name)
            except TeleportError as error:
                logger.info("session %s: signal %.32r: %s", self.id, name, error)

    def writable(self, yes: bool) -> None:
        """Read from the child only while the client takes it."""
        self._writable = yes
        for source in self._sources:
            (source.resume if yes else source.pause)()

    def closed(self) -> None:
        """Let go of the child: its terminal hangs up, its pipes close."""
        self._close_pipes()
        self._agent.close()
        self._stop_idling()
        if self._resized is not None:
            self._resized.cancel()
        self.gone.set()
        self._left(self)

    def warn(self, text: str) -> None:
        """Tell the person at the terminal, if there is one."""
        if self._size is not None:
            self._tell(text)

    async def over(self) -> None:
        """Wait until all has been told of the session, once its channel is gone."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def end(self, why: str) -> None:
        """End the session from this side, and tell the person why."""
        if self._why:
            return
        self._why = why
        self._tell(why)
        self._close_pipes()
        self._channel.exit(FAILED)

    # --- its life -----------------------------------------------------------------------------------------------

    async def _run(self, asked: SessionRequest) -> None:
        proved = self._proved
        try:
            self._grant = self._node.access.authorise(proved.identity, proved.login)
        except AccessDenied as error:
            self._fail(error)
            return
        request = programs.enforced(asked, proved.identity)
        try:
            copy = programs.copy_of(request, self._grant)
        except TeleportError as error:
            protocol = "sftp" if request.kind == "subsystem" else "scp"
            self._record(transfer.refused(protocol, error, request.command))
            self._channel.write_error(transfer.refusal(error))
            self._channel.exit(COPY_REFUSED)
            return
        if copy is not None:
            self._transcript = transfer.Transcript(self._record)
        program = programs.program_of(asked, request, copy, login=proved.login, environment=self._environment())
        if program.terminal is not None and request.terminal is not None:
            self._size = self._logged = request.terminal.size
        try:
            if copy is None:
                self._recording = self._begin_recording(program)
            child = await self._node.spawner.run(program)
        except TeleportError as error:
            self._fail(error)
            self._recording.close({"error": str(error)})
            return
        self._child = child
        interactive = program.terminal is not None or program.kind == "shell"
        self._node.running.enter(
            self.id,
            user=proved.identity.user,
            login=proved.login,
            command=events.text(program.command) or ("" if program.kind == "shell" else program.kind),
            interactive=interactive,
            end=self.end,
        )
        if interactive:
            self._emit(EventType.SESSION_START, **self._sized())
        self._connect(child)
        self._start_idling()
        exited = await self._end_of(child)
        self._recording.close({"exitCode": exited.code if exited.code is not None else FAILED, "reason": self._why})
        if program.kind == "exec":
            self._emit(
                EventType.EXEC,
                command=events.text(program.command),
                exitCode=exited.code if exited.code is not None else FAILED,
                exitError=self._why or (f"signal {exited.signal}" if exited.signal else ""),
            )
        if interactive:
            self._emit(EventType.SESSION_END, **self._sized(), **({"reason": self._why} if self._why else {}))

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

    async def _end_of(self, child: Child) -> Exit:
        """Wait until the session is over, tell the client how the child ended, and return it.

        The session is over once the child has ended and what it wrote has arrived; or once the channel is gone, and a
        child that this does not end goes on by itself.
        """
        gone, ended = asyncio.create_task(self.gone.wait()), asyncio.create_task(self._drained(child))
        try:
            await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._why = self._why or "the client has gone"
                return Exit(FAILED)
            exited = ended.result()
        except TeleportError as error:  # the spawner is gone
            logger.error("session %s of %s: %s", self.id, self._who, error)  # noqa: TRY400 - no bug here
            self.end(str(error))
            return Exit(FAILED)
        finally:
            gone.cancel()
            ended.cancel()
            self._stop_idling()
        if exited.signal is None:
            self._channel.exit(exited.code if exited.code is not None else FAILED)
        else:
            # RFC 4254 §6.10: names that are not in it have an @.
            name = exited.signal if exited.signal in SIGNALS else f"{exited.signal}@teleport.internal"
            self._channel.exit_signal(name, core=exited.core)
        return exited

    async def _drained(self, child: Child) -> Exit:
        exited = await child.wait()
        if child.terminal is not None:
            for source in self._sources:
                source.finish()
        await self._outputs_over.wait()
        return exited

    def _connect(self, child: Child) -> None:
        """Let bytes pass between the channel and the child."""
        if child.terminal is not None:
            self._add_source(child.terminal, self._output)
            self._sink.attach(os.dup(child.terminal))
        elif child.stdin is not None and child.stdout is not None and child.stderr is not None:
            self._add_source(child.stdout, self._output)
            self._add_source(child.stderr, self._error_output)
            self._sink.attach(child.stdin)
        self._open_sources = len(self._sources)
        for source in self._sources:
            if self.gone.is_set() or self._why:  # it took too long to start
                source.close()
            elif self._writable:
                source.resume()

    def _close_pipes(self) -> None:
        """Let go of the child. What a copy tells of is heard to its end, which its input's end brings about."""
        heard = self._sources[-1] if self._transcript is not None and self._sources else None
        for source in self._sources:
            (source.resume if source is heard else source.close)()
        self._sink.close()

    def _add_source(self, fd: int, received: Callable[[bytes], None]) -> None:
        self._sources.append(Source(fd, received=received, ended=self._source_ended))

    def _source_ended(self) -> None:
        self._open_sources -= 1
        if not self._open_sources:
            if self._transcript is not None:
                self._transcript.close()
            self._outputs_over.set()

    def _output(self, data: bytes) -> None:
        """Record output and pass it on. All output of a session passes here, or in `_error_output`."""
        if self._transcript is not None:
            self._last_input = self._loop.time()  # a long download has no input, and is not idle
        if self._recorded(data):
            self._channel.write(data)

    def _error_output(self, data: bytes) -> None:
        if not self._recorded(data):
            return
        shown = self._transcript.feed(data) if self._transcript is not None else data
        if not self.gone.is_set():
            self._channel.write_error(shown)

    def _begin_recording(self, program: Program) -> SessionRecording:
        """Start the recording. Raises Unavailable where the session may not be without one."""
        now = datetime.now(UTC)
        who = events.who(self._node.host_id, self._proved)
        fields: dict[str, Field] = {"sid": self.id, "time": f"{now:%Y-%m-%dT%H:%M:%SZ}", **who, **self._sized()}
        if program.kind == "shell":
            return self._node.recordings.begin(self.id, EventType.SESSION_START, fields)
        return self._node.recordings.begin(self.id, EventType.EXEC, {**fields, "command": events.text(program.command)})

    def _recorded(self, data: bytes) -> bool:
        """Record what is about to be shown; return whether it may be. If not, the session has been ended."""
        try:
            self._recording.output(data)
        except Unavailable as error:
            self.end(_unrecorded(error))
            return False
        return True

    def _congested(self, yes: bool) -> None:
        (self._channel.pause_reading if yes else self._channel.resume_reading)()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._node.running.leave(self.id)
        if not task.cancelled() and (error := task.exception()):
            logger.error("session %s failed", self.id, exc_info=error)
            self._channel.abort()

    # --- limits -------------------------------------------------------------------------------------------------

    def _start_idling(self) -> None:
        self._last_input = self._loop.time()
        if self._grant.idle_timeout is not None:
            self._watch_idleness(self._grant.idle_timeout.total_seconds())

    def _stop_idling(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    def _watch_idleness(self, limit: float) -> None:
        left = self._last_input + limit - self._loop.time()
        if left <= 0:
            timeout = self._grant.idle_timeout
            assert timeout is not None  # noqa: S101 - or nobody watches
            self.end(f"the session ends: no input for {format_duration(timeout)} (idleTimeout of your roles)")
        else:
            self._idle = self._loop.call_later(left, self._watch_idleness, limit)

    # --- what is told -------------------------------------------------------------------------------------------

    def _tell(self, text: str) -> None:
        self._channel.write_error(f"teleport: {text}\r\n".encode(errors="backslashreplace"))

    @property
    def _who(self) -> str:
        return f"{self._proved.identity.user} as {self._proved.login} from {self._proved.peer.host}"

    def _sized(self) -> Mapping[str, Field]:
        return {"size": events.size(self._size)} if self._size is not None else {}

    def _record(self, record: transfer.FileTransfer) -> None:
        self._emit(EventType.SCP, **events.transfer(record))

    def _fail(self, error: TeleportError) -> None:
        """Tell that there will be no session."""
        logger.warning("session %s of %s: %s", self.id, self._who, error)
        self._emit(EventType.SESSION_REJECTED, error=events.text(str(error)))
        self._tell(f"{error}. {error.hint}" if error.hint else str(error))
        self._channel.exit(FAILED)

    def _emit(self, event: EventType, **fields: Field) -> None:
        self._node.audit.emit(event, sid=self.id, **events.who(self._node.host_id, self._proved), **fields)


def _unrecorded(error: Unavailable) -> str:
    return f"this session may not go on unrecorded: {error}"
