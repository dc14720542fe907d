"""What the command line of `tsh ssh`, `tsh scp` and `tsh sftp` asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AskedSession:
    """A session as the command line asks for it; `options` are ssh's own."""

    destination: str
    command: tuple[str, ...] = ()
    login: str | None = None
    port: int | None = None
    options: tuple[str, ...] = ()
    cluster: str | None = None
    parallel: int = 10
    builtin: bool = False
    variables: tuple[tuple[str, str], ...] = ()
    """Of the environment there; neither name nor value has blanks or quotes."""

    def ssh_options(self) -> list[str]:
        """Return the options for ssh."""
        # In one option: of several SetEnv ssh takes the first.
        variables = " ".join(f"{name}={value}" for name, value in self.variables)
        environment = ["-o", f"SetEnv={variables}"] if variables else []
        return [*self.options, *environment, *(["-p", str(self.port)] if self.port else [])]


@dataclass(frozen=True, slots=True)
class AskedCopy:
    """Files to copy as the command line has them; `options` are scp's or sftp's own."""

    files: tuple[str, ...]
    login: str | None = None
    port: int | None = None
    options: tuple[str, ...] = ()
    cluster: str | None = None
    builtin: bool = False

    def openssh_options(self) -> list[str]:
        """Return the options for scp and sftp."""
        return [*self.options, *(["-P", str(self.port)] if self.port else [])]
