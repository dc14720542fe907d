"""The real scp, both protocols, and sftp against our side of the copy, with no network in between."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.transfers import PROGRAM

SECONDS = 60
OLD = 1_000_000_000


@dataclass(frozen=True)
class World:
    """A client's folder and a node's home."""

    here: Path
    home: Path
    ssh: Path
    """What stands for ssh."""

    def run(self, *command: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a client in its folder to its end."""
        return subprocess.run(
            command,
            cwd=self.here,
            env={**os.environ, "HOME": str(self.home), "LANG": "C.UTF-8"},
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )

    def scp(self, *arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
        """Run scp; `node:` is the node."""
        return self.run("scp", "-S", str(self.ssh), *arguments)

    def sftp(self, batch: str) -> subprocess.CompletedProcess[bytes]:
        """Run sftp with these lines."""
        return self.run("sftp", "-q", "-b", "-", "-S", str(self.ssh), "node", stdin=batch.encode())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two empty folders."""
    here, home, ssh = tmp_path / "here", tmp_path / "home", tmp_path / "ssh"
    here.mkdir()
    home.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {sys.executable} -I {PROGRAM} "$@"\n')
    ssh.chmod(0o755)
    return World(here, home, ssh)


@pytest.fixture(params=["sftp protocol", "old protocol"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Return scp's option for either protocol."""
    return "-s" if request.param == "sftp protocol" else "-O"


def succeeded(done: subprocess.CompletedProcess[bytes]) -> None:
    """Check that a client ended well, without a complaint."""
    text = b"".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith(b"\x1e"))
    assert (done.returncode, text) == (0, b""), done


def tree(folder: Path) -> dict[str, tuple[int, bytes | None, int]]:
    """Return mode, contents and time of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        data = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (stat.S_IMODE(status.st_mode), data, int(status.st_mtime))
    return found


def names(folder: Path) -> list[bytes]:
    """Return the names in a folder."""
    return sorted(os.fsencode(path.name) for path in folder.iterdir())


def plant(folder: Path) -> Path:
    """Make folders with files of all kinds, and return the topmost."""
    top = folder / "top"
    (top / "sub" / "empty folder").mkdir(parents=True)
    (top / "large").write_bytes(os.urandom(3_000_001))
    (top / "empty").write_bytes(b"")
    (top / "sub" / "run").write_text("#!/bin/sh\n")
    (top / "sub" / "run").chmod(0o755)
    (top / "sub" / "secret").write_text("x")
    (top / "sub" / "secret").chmod(0o600)
    (top / "sub" / "-ä b*c'\"").write_text("odd")
    for path in [*top.rglob("*"), top]:
        os.utime(path, (OLD, OLD + 7))
    return top


def test_a_file_up_and_down(world: World, protocol: str) -> None:
    """Its bytes are the same, under another name, and over a longer file."""
    data = os.urandom(1_000_003)
    (world.here / "a").write_bytes(data)
    (world.home / "b").write_bytes(bytes(2_000_000))
    succeeded(world.scp(protocol, "a", "node:b"))
    assert (world.home / "b").read_bytes() == data
    succeeded(world.scp(protocol, "node:b", "c"))
    assert (world.here / "c").read_bytes() == data


def test_an_empty_file(world: World, protocol: str) -> None:
    """Nothing of it is lost."""
    (world.here / "a").write_text("")
    succeeded(world.scp(protocol, "a", "node:"))
    assert (world.home / "a").read_bytes() == b""
    succeeded(world.scp(protocol, "node:a", "b"))
    assert (world.here / "b").read_bytes() == b""


def test_folders_up_and_down_with_times_and_modes(world: World, protocol: str) -> None:
    """-r -p: every file, folder, mode and time, of names with any letters."""
    top = plant(world.here)
    succeeded(world.scp(protocol, "-r", "-p", "top", "node:copied"))
    assert tree(world.home / "copied") == tree(top)
    succeeded(world.scp(protocol, "-r", "-p", "node:copied", "back"))
    assert tree(world.here / "back") == tree(top)
    assert int((world.here / "back").stat().st_mtime) == OLD + 7


def test_folders_without_preserving(world: World, protocol: str) -> None:
    """-r: modes are less the umask, times are of now."""
    top = plant(world.here)
    (top / "sub" / "run").chmod(0o777)
    began = int(time.time()) - 2
    succeeded(world.scp(protocol, "-r", "top", "node:"))
    found = tree(world.home / "top")
    assert found["sub/run"][0] == 0o755
    assert found["sub/secret"][0] == 0o600
    assert min(time for _, _, time in found.values()) >= began
    assert {name: data for name, (_, data, _) in found.items()} == {
        name: data for name, (_, data, _) in tree(top).items()
    }


def test_no_setuid_bit_arrives(world: World, protocol: str) -> None:
    """-p keeps 0777 only, up and down."""
    (world.here / "a").write_text("")
    (world.here / "a").chmod(0o6755)
    succeeded(world.scp(protocol, "-p", "a", "node:"))
    assert stat.S_IMODE((world.home / "a").stat().st_mode) == 0o755


def test_several_files_into_a_folder(world: World, protocol: str) -> None:
    """And not into anything else."""
    (world.home / "folder").mkdir()
    (world.home / "file").write_text("kept")
    for name in ("a", "b"):
        (world.here / name).write_text(name)
    succeeded(world.scp(protocol, "a", "b", "node:folder"))
    assert {path.name: path.read_text() for path in (world.home / "folder").iterdir()} == {"a": "a", "b": "b"}
    refused = world.scp(protocol, "a", "b", "node:file")
    assert refused.returncode in (1, 255)  # 255 is what scp has for it in the SFTP protocol
    assert b"file: Not a directory" in refused.stderr or b'mkdir "file"' in refused.stderr
    assert (world.home / "file").read_text() == "kept"


def test_patterns(world: World, protocol: str) -> None:
    """`*` is expanded on the node, without a shell; a quoted one is a letter."""
    (world.home / "folder").mkdir()
    for name in ("a.txt", "b.txt", "c.md", "*.txt"):
        (world.home / "folder" / name).write_text(name)
    succeeded(world.scp(protocol, "node:folder/[ab].txt", "."))
    assert sorted(path.name for path in world.here.iterdir()) == ["a.txt", "b.txt"]
    succeeded(world.scp(protocol, "node:folder/\\*.txt", "."))
    assert sorted(path.name for path in world.here.iterdir()) == ["*.txt", "a.txt", "b.txt"]


def test_homes(world: World, protocol: str) -> None:
    """`~` is the home, as a path without a slash is in it."""
    (world.home / "a").write_text("x")
    succeeded(world.scp(protocol, "node:~/a", "node1"))
    succeeded(world.scp(protocol, "node1", "node:~/b"))
    assert (world.home / "b").read_text() == "x"


@pytest.mark.parametrize("name", ["$(touch pwned)", "`touch pwned`", "a;touch pwned", "a|touch pwned", "$HOME"])
def test_a_command_in_a_name_is_not_run(world: World, protocol: str, name: str) -> None:
    """CVE-2020-15778: in the old protocol it is refused with a reason, in the other it is a name like any."""
    (world.here / "a").write_text("x")
    done = world.scp(protocol, "a", f"node:{name}")
    assert not (world.home / "pwned").exists()
    assert not (world.here / "pwned").exists()
    if protocol == "-s":
        succeeded(done)
        assert [path.name for path in world.home.iterdir()] == [name]
    else:
        assert done.returncode == 1
        assert b"which only a shell understands" in done.stderr
        assert list(world.home.iterdir()) == []


def test_names_that_are_not_utf8(world: World, protocol: str) -> None:
    """A name is bytes."""
    name = b"caf\xe9 \xff"
    (world.here / os.fsdecode(name)).write_text("x")
    far = b"node:" + (name.replace(b" ", b"\\ ") if protocol == "-O" else name)
    succeeded(world.scp(protocol, name, far))
    assert names(world.home) == [name]
    (world.here / os.fsdecode(name)).unlink()
    succeeded(world.scp(protocol, far, "."))
    assert names(world.here) == [name]


def test_what_is_not_there(world: World, protocol: str) -> None:
    """The name and the reason reach the person, with exit code 1; the others are copied."""
    (world.home / "a").write_text("x")
    done = world.scp(protocol, "node:none", "node:a", ".")
    assert done.returncode == 1
    assert b"none" in done.stderr
    assert b"No such file or directory" in done.stderr
    assert (world.here / "a").exists()


def test_a_folder_without_minus_r(world: World, protocol: str) -> None:
    """It is named, and nothing is made."""
    (world.home / "folder").mkdir()
    done = world.scp(protocol, "node:folder", ".")
    assert done.returncode == 1
    assert b"not a regular file" in done.stderr
    assert list(world.here.iterdir()) == []


def test_links_are_followed_when_copied(world: World, protocol: str) -> None:
    """As scp does: the file arrives, not the link; a link to nowhere is an error."""
    (world.home / "folder").mkdir()
    (world.home / "file").write_text("x")
    (world.home / "folder" / "link").symlink_to("../file")
    succeeded(world.scp(protocol, "-r", "node:folder", "."))
    assert (world.here / "folder" / "link").read_text() == "x"
    assert not (world.here / "folder" / "link").is_symlink()


@pytest.mark.parametrize("size", [0, 1, 32768, 32769, 262144])
def test_sizes_at_the_edges_of_blocks(world: World, protocol: str, size: int) -> None:
    """Nothing is lost or added at the end."""
    (world.here / "a").write_bytes(os.urandom(size))
    succeeded(world.scp(protocol, "a", "node:"))
    assert (world.home / "a").read_bytes() == (world.here / "a").read_bytes()


def test_more_than_4_gib(world: World) -> None:
    """The end of a file with holes, whose size takes more than 32 bits, is fetched to where it belongs."""
    with (world.home / "large").open("wb") as file:
        file.seek(2**32 + 2)
        file.write(b"end")
    with (world.here / "large").open("wb") as near:
        near.truncate(2**32 - 10)
    succeeded(world.sftp(f"reget large {world.here}/large\n"))
    with (world.here / "large").open("rb") as near:
        near.seek(2**32 - 10)
        assert near.read() == bytes(12) + b"end"


# --- sftp ----------------------------------------------------------------------------------------------------------


def test_a_batch_of_everything(world: World) -> None:
    """What a person types in sftp, one after the other."""
    (world.here / "a").write_text("text")
    done = world.sftp(
        f"""
        pwd
        put a
        mkdir folder
        rename a folder/b
        chmod 640 folder/b
        ln folder/b hard
        ln -s folder/b soft
        symlink folder/b other
        get soft {world.here}/got
        ls -la
        df
        cp hard copied
        rm hard
        put -r {world.here} tree
        put -p a times
        -rmdir none
        """
    )
    assert done.returncode == 0, done
    assert os.fsencode(world.home.resolve()) in done.stdout
    assert (world.here / "got").read_text() == "text"
    assert stat.S_IMODE((world.home / "folder/b").stat().st_mode) == 0o640
    assert (world.home / "soft").readlink() == Path("folder/b")
    assert not (world.home / "hard").exists()
    assert (world.home / "copied").read_text() == "text"
    assert (world.home / "tree/a").read_text() == "text"
    assert int((world.home / "times").stat().st_mtime) == int((world.here / "a").stat().st_mtime)
    listing = done.stdout.decode()
    assert "lrwxrwxrwx" in listing
    assert "drwxr-xr-x" in listing


def test_an_upload_that_is_resumed(world: World) -> None:
    """The command reput sends only what is missing."""
    (world.here / "a").write_bytes(b"0123456789" * 10_000)
    (world.home / "a").write_bytes((b"0123456789" * 10_000)[:33_333])
    succeeded(world.sftp("reput a a\n"))
    assert (world.home / "a").read_bytes() == (world.here / "a").read_bytes()


def test_a_folder_of_many_files(world: World) -> None:
    """A listing of several packets has every name once."""
    names = {f"file{number:04}" for number in range(1500)}
    for name in names:
        (world.home / name).touch()
    done = world.sftp("ls -1\n")
    assert sorted(line.strip() for line in done.stdout.decode().splitlines() if line.startswith("file")) == sorted(
        names
    )


def test_the_reason_behind_a_failure(world: World) -> None:
    """OpenSSH's sftp shows "Failure" for most errors; the reason is shown beside it."""
    (world.home / "folder").mkdir()
    (world.home / "folder" / "file").touch()
    done = world.sftp("rmdir folder\n")
    assert done.returncode == 1
    assert b"sftp: " in done.stderr
    assert b"folder: Directory not empty" in done.stderr


def test_a_device_that_is_full(world: World, protocol: str) -> None:
    """The same of a disk that says so itself (full(4))."""
    (world.here / "a").write_bytes(bytes(1_000_000))
    done = world.scp(protocol, "a", "node:/dev/full")
    assert done.returncode == 1
    assert b"/dev/full: No space left on device" in done.stderr


def test_a_file_that_may_not_grow(world: World, protocol: str) -> None:
    """The person reads why, and the exit code is scp's."""
    (world.here / "a").write_bytes(bytes(1_000_000))
    world.ssh.write_text(world.ssh.read_text().replace("exec ", "ulimit -f 100; exec "))
    done = world.scp(protocol, "a", "node:")
    assert done.returncode == 1
    assert b"a: File too large" in done.stderr
