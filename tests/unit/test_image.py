"""What `make image` hands to the builder: files of this project only, and the machine's settings as secrets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.kubernetes.in_docker import CONFIG, with_ports
from tests.e2e.kubernetes.node import LABEL
from tools import image

ROOT = Path(__file__).parents[2]
COPIED = ["LICENSE", "README.md", "operator", "pyproject.toml", "requirements", "runtime", "tools", "web"]


def test_the_builder_sees_what_the_image_is_made_of() -> None:
    """The context holds what the Dockerfile copies: no tests, no caches, nothing that merely lies about."""
    seen = {path.relative_to(ROOT).as_posix() for path in image.context()}
    assert {"runtime/core/version.py", "operator/teleport_operator/main.py", "requirements/runtime.txt"} <= seen
    assert sorted({name.split("/")[0] for name in seen} - {"Dockerfile", ".dockerignore"}) == COPIED
    assert [name for name in seen if "__pycache__" in name or "node_modules" in name] == []
    copied = [line.split()[1:-1] for line in (ROOT / "Dockerfile").read_text().split("\n") if line.startswith("COPY ")]
    for source in (word for words in copied for word in words if not words[0].startswith("--from")):
        assert any(name == source or name.startswith(f"{source}/") for name in seen), source


def test_every_file_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A changed file, a new one, a renamed one, and another base each make another image; nothing else does."""
    for name, content in {
        ".dockerignore": "*\n!runtime\n**/*.log\n",
        "Dockerfile": "FROM x",
        "runtime/a.py": "1",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(image, "ROOT", tmp_path)
    seen = [image.digest("base"), image.digest("other")]
    (tmp_path / "runtime/a.py").write_text("2")
    seen.append(image.digest("base"))
    (tmp_path / "runtime/b.py").touch()
    seen.append(image.digest("base"))
    (tmp_path / "runtime/b.py").rename(tmp_path / "runtime/c.py")
    seen.append(image.digest("base"))
    assert len(set(seen)) == len(seen)
    (tmp_path / "runtime/c.log").touch()
    (tmp_path / "notes").touch()
    assert image.digest("base") == seen[-1]


def test_settings_of_pip_and_npm_are_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What pip and npm are told here reaches the build in files that only we can read, and that are gone afterwards."""
    wheels, authorities, npmrc = tmp_path / "wheels", tmp_path / "authorities.pem", tmp_path / "npmrc"
    wheels.mkdir()
    authorities.touch()
    npmrc.touch()
    for name, value in {
        "PIP_INDEX_URL": "https://somebody:password@index.example/simple",
        "PIP_FIND_LINKS": f"{wheels} {tmp_path}/missing",
        "PIP_CERT": str(authorities),
        "PIP_TIMEOUT": "99",
        "NPM_CONFIG_USERCONFIG": str(npmrc),
    }.items():
        monkeypatch.setenv(name, value)
    with image.settings() as secrets:
        pip = secrets.files["pip"]
        said = pip.read_text().splitlines()
        assert said[0] == "[global]"
        assert "index-url = https://somebody:password@index.example/simple" in said
        assert "timeout = 99" in said
        assert "cert = /run/authorities.pem" in said
        assert pip.stat().st_mode & 0o077 == 0
        assert (secrets.files["authorities"], secrets.files["npm"]) == (authorities, npmrc)
        assert secrets.folders == (str(wheels),)
        assert "password" not in " ".join(secrets.flags())
    assert not pip.exists()


def test_secrets_are_mounted_by_the_names_that_they_have() -> None:
    """Each secret that the Dockerfile asks for is one that is given, and no line puts one into a layer."""
    text = (ROOT / "Dockerfile").read_text()
    asked = {part.split(",")[0] for part in text.split("--mount=type=secret,id=")[1:]}
    assert asked == {"pip", "authorities", "npm"}
    assert "--no-cache-dir" in text
    assert text.count("--require-hashes") == text.count("--only-binary=:all:") == 2


def test_a_machine_without_a_builder_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither Docker nor buildah: the message names the command that brings one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert not image.has_docker()
    with (
        image.settings() as secrets,
        pytest.raises(image.Failed, match="no buildah and no mmdebstrap; run: tools/setup image"),
    ):
        image.Buildah("").build(secrets)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with image.settings() as secrets, pytest.raises(image.Failed, match="sudo make image"):
        image.Buildah("").build(secrets)


def test_kind_opens_the_ports_of_the_example() -> None:
    """kind-config.yaml opens the NodePorts of examples/kind/values.yaml, on loopback; its node is one for tests."""
    (node,) = yaml.safe_load(CONFIG.read_text())["nodes"]
    values = yaml.safe_load((ROOT / "examples/kind/values.yaml").read_text())["proxy"]
    opened = {each["containerPort"]: each for each in node["extraPortMappings"]}
    assert sorted(opened) == sorted(values["service"]["nodePorts"].values())
    assert all(each["listenAddress"] == "127.0.0.1" and each["hostPort"] == port for port, each in opened.items())
    for address, name in (("publicAddr", "web"), ("sshPublicAddr", "ssh")):
        assert values[address] == f"127.0.0.1:{values['service']['nodePorts'][name]}"
    key, _, value = LABEL.partition("=")
    assert node["labels"] == {key: value}


def test_other_ports_of_this_machine_are_taken_when_asked() -> None:
    """The demo picks free ports: only hostPort changes, and the name is left to the command line."""
    config = yaml.safe_load(CONFIG.read_text())
    changed = with_ports(config, {30080: 12345})
    (before,), (after,) = config["nodes"], changed["nodes"]
    assert [each["hostPort"] for each in after["extraPortMappings"]] == [12345, 30023, 30024]
    assert [each["containerPort"] for each in after["extraPortMappings"]] == [30080, 30023, 30024]
    assert before["extraPortMappings"][0]["hostPort"] == 30080
    assert "name" not in changed
    assert after["labels"] == before["labels"]


@pytest.mark.parametrize("script", ["tools/image_root.sh"])
def test_scripts_of_the_image_can_be_read(script: str) -> None:
    """A shell without bash's extensions reads it."""
    subprocess.run(["sh", "-n", ROOT / script], check=True, timeout=30)
