"""The installed scripts as processes: `teleport configure`, `version` and `help`, with their exit codes and streams."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.core.version import __version__

SCRIPTS = Path(sys.executable).parent
BROKEN = Path(__file__).parents[1] / "unit" / "service" / "broken"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of our scripts to its end."""
    return subprocess.run([str(SCRIPTS / name), *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_sample_passes_the_check(tmp_path: Path) -> None:
    """`teleport configure > FILE` gives a file that `--test` accepts: one line on stdout, nothing on stderr."""
    sample = run("teleport", "configure")
    assert (sample.returncode, sample.stderr) == (0, "")
    file = tmp_path / "teleport.yaml"
    file.write_text(sample.stdout)
    checked = run("teleport", "configure", "--test", "-c", str(file))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"ok: {file}: roles auth,node,proxy; storage sqlite; dynamic_config no\n"


@pytest.mark.parametrize("file", sorted(BROKEN.glob("*.yaml")), ids=lambda file: file.stem)
def test_broken_files(file: Path) -> None:
    """Each broken file ends with 1 and one error on stderr that names the file; stdout stays empty."""
    refused = run("teleport", "configure", "--test", "-c", str(file))
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"error: {file}")
    assert refused.stderr.count("error: ") == 1
    assert "Traceback" not in refused.stderr


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there ends with 1 and tells how to make one."""
    refused = run("teleport", "configure", "--test", "-c", str(tmp_path / "teleport.yaml"))
    assert refused.returncode == 1
    assert refused.stderr == (
        f"error: {tmp_path}/teleport.yaml: there is no such file\n"
        "hint: Nothing was started. Make one with: teleport configure > FILE\n"
    )


def test_flags_are_checked_with_the_file(tmp_path: Path) -> None:
    """--test takes the flags of the start command: good ones change the answer, bad ones are named."""
    file = tmp_path / "teleport.yaml"
    file.write_text("teleport: {auth_servers: [10.0.0.2]}")
    checked = run(
        "teleport", "configure", "--test", "-c", str(file), "--roles=node", '--labels=uptime=[1m:"uptime -p"]'
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "roles node;" in checked.stdout
    refused = run("teleport", "configure", "--test", "-c", str(file), "--roles=nodes")
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "error: --roles: expected auth, node or proxy, found 'nodes'; did you mean node?\n"
    )


def test_warnings_go_to_stderr(tmp_path: Path) -> None:
    """What deserves a word is told on stderr, shows no secret, and is no failure."""
    file = tmp_path / "teleport.yaml"
    file.write_text('auth_service: {tokens: ["node:hunter2"]}')
    checked = run("teleport", "configure", "--test", "-c", str(file))
    assert checked.returncode == 0
    assert checked.stderr.startswith("warning: auth_service.tokens[0]: the token has fewer than 32 characters")
    assert "hunter2" not in checked.stdout + checked.stderr


def test_flags_without_test() -> None:
    """The flags mean nothing to the sample, so they are refused there with 2."""
    refused = run("teleport", "configure", "--nodename=x")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--test" in refused.stderr


@pytest.mark.parametrize("name", ["teleport", "tctl", "tsh"])
def test_version(name: str) -> None:
    """Each program tells its version."""
    assert run(name, "version").stdout == f"{name} {__version__}\n"


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("teleport", {"configure", "help", "start", "status", "version"}),
        (
            "tctl",
            {"apply", "audit", "auth", "completion", "create", "events", "get", "help", "nodes", "plan", "recordings"}
            | {"rm", "sessions", "tokens", "tunnels", "users", "version"},
        ),
        (
            "tsh",
            {"agent", "clusters", "completion", "config", "help", "join", "login", "logout", "ls", "play", "recordings"}
            | {"scp", "sessions", "sftp", "ssh", "status", "version"},
        ),
    ],
)
@pytest.mark.parametrize("words", [("help",), ("--help",), ("-h",)])
def test_help(name: str, commands: set[str], words: tuple[str, ...]) -> None:
    """Each program tells its commands, and only those it has."""
    shown = run(name, *words)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"Usage: {name} " in shown.stdout
    assert set(re.findall(r"^  ([a-z]+) ", shown.stdout.partition("Commands:")[2], re.MULTILINE)) == commands


def test_help_of_a_command() -> None:
    """`help COMMAND` is `COMMAND --help`, with all flags of the manual's table."""
    shown = run("teleport", "help", "configure")
    assert shown.stdout == run("teleport", "configure", "--help").stdout
    for flag in ("-d, --debug", "-r, --roles", "--advertise-ip", "-l, --listen-ip", "--auth-server", "--token",
                 "--nodename", "-c, --config", "--labels", "--ca-pin"):  # fmt: skip
        assert flag in shown.stdout


@pytest.mark.parametrize("words", [(), ("bogus",), ("help", "bogus"), ("--bogus",), ("configure", "extra")])
def test_misuse(words: tuple[str, ...]) -> None:
    """A wrong command line ends with 2, tells where help is on stderr and puts nothing on stdout."""
    refused = run("teleport", *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "help" in refused.stderr


@pytest.mark.parametrize("words", [("configure",), ("--help",)])
def test_nobody_reads(words: tuple[str, ...]) -> None:
    """Whoever closes the pipe gets no complaint; the code is that of SIGPIPE."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        ended = subprocess.run(
            [str(SCRIPTS / "teleport"), *words], stdout=write_end, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(write_end)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_full_disk() -> None:
    """A sample that cannot be written is no success."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [str(SCRIPTS / "teleport"), "configure"], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == b"error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("name", ["teleport", "tctl", "tsh"])
def test_version_imports_little(name: str) -> None:
    """`version` loads none of what makes a start slow."""
    code = (
        "import sys\n"
        f"from runtime.cli.{name} import main\n"
        "sys.argv[1:] = ['version']\n"
        "try: main()\n"
        "except SystemExit: print(*sorted(sys.modules))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(shown.stdout.split())
    assert "click" in loaded
    assert not loaded & {"pydantic", "yaml", "cryptography", "asyncssh", "boto3", "grpc", "asyncio", "kubernetes"}
