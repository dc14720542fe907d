"""Ansible over Teleport (manual, "Integrating with Ansible"): plain OpenSSH, `tsh config` and the agent."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.servers.sshd import LOGIN
from tests.servers.teleport import SCRIPTS
from tests.servers.tsh import Done, Tsh, TshCluster, tsh_cluster

PLAYBOOK = """\
- hosts: all
  gather_facts: false
  vars: {node: "{{ inventory_hostname }}"}
  tasks:
    - name: a file as it is
      ansible.builtin.copy: {src: "{{ here }}/binary", dest: "{{ there }}/{{ node }}.binary", mode: "0640"}
    - name: a template
      ansible.builtin.template: {src: "{{ here }}/greeting.j2", dest: "{{ there }}/{{ node }}.greeting"}
    - name: a command
      ansible.builtin.command: {cmd: id -un}
      register: who
      changed_when: false
    - name: whose it was
      ansible.builtin.assert: {that: [who.stdout == login]}
    - name: a file from there
      ansible.builtin.fetch: {src: "{{ there }}/{{ node }}.greeting", dest: "{{ here }}/fetched/", flat: true}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TshCluster]:
    """Run a cluster for all tests of this file."""
    with tsh_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def short() -> Iterator[Path]:
    """Yield a folder with a short path for control sockets; the ssh that listen there are ended."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        for socket in Path(folder).iterdir():
            subprocess.run(["ssh", "-O", "exit", "-S", socket, "x"], capture_output=True, timeout=30, check=False)


def machine(cluster: TshCluster, folder: Path, nodes: Sequence[str], ssh_args: str, *settings: str) -> Tsh:
    """Set a person's machine up for Ansible: `tsh config` in a file, and an inventory of these nodes."""
    joe = cluster.person(folder / "tsh")
    printed = joe.run("config")
    assert printed.returncode == 0, printed.stderr
    (folder / "ssh_config").write_text(printed.stdout)
    (folder / "inventory").write_text("".join(f"{node}\n" for node in nodes))
    (folder / "playbook.yaml").write_text(PLAYBOOK)
    (folder / "binary").write_bytes(bytes(range(256)) * 400)
    (folder / "greeting.j2").write_text("hello from {{ inventory_hostname }}\n")
    (folder / "there").mkdir()
    lines = ["[ssh_connection]", f"ssh_args = -F {folder}/ssh_config {ssh_args}", *settings]
    (folder / "ansible.cfg").write_text("\n".join(lines) + "\n")
    return Tsh(
        joe.home,
        {
            "PATH": f"{SCRIPTS}:/usr/bin:/bin",
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_REMOTE_TMP": str(folder / "remote"),
            "LC_ALL": "C.UTF-8",
        },
    )


def play(person: Tsh, folder: Path) -> Done:
    """Run the playbook, with the key in an agent as the manual has it."""
    variables = {
        "here": str(folder),
        "there": str(folder / "there"),
        "login": LOGIN,
        "ansible_user": LOGIN,
        "ansible_python_interpreter": sys.executable,
    }
    (folder / "variables.json").write_text(json.dumps(variables))
    command = f"ansible-playbook -i {folder}/inventory -e @{folder}/variables.json {folder}/playbook.yaml"
    script = f'eval "$(tsh agent)" >&2 || exit 99; {command}; code=$?; eval "$(tsh agent --kill)" >&2; exit $code'
    return person.run_other("sh", "-c", script)


# The manual's scp_if_ssh = True, under the name that Ansible has had for it since 2.12, and with the protocol that scp
# had then; sftp is Ansible's own choice.
@pytest.mark.parametrize(
    ("settings", "nodes"),
    [((), ("db1.main", "db2.main")), (("scp_extra_args = -O", "transfer_method = scp"), ("db2.main",))],
    ids=["sftp", "scp"],
)
def test_a_playbook(
    cluster: TshCluster, tmp_path: Path, short: Path, settings: tuple[str, ...], nodes: tuple[str, ...]
) -> None:
    """A playbook with copy, template, command and fetch runs, by sftp and by the manual's scp."""
    # As Ansible has it by default, with a folder for its sockets: their path must be short.
    sharing = f"-o ControlMaster=auto -o ControlPersist=60s -o ControlPath={short}/%C"
    done = play(machine(cluster, tmp_path, nodes, sharing, *settings), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for node in nodes:
        assert f"{node}                   : ok=5    changed=3    unreachable=0    failed=0" in done.stdout
        assert (tmp_path / "there" / f"{node}.binary").read_bytes() == (tmp_path / "binary").read_bytes()
        assert (tmp_path / "there" / f"{node}.binary").stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "fetched" / f"{node}.greeting").read_text() == f"hello from {node}\n"


def test_a_node_that_is_not_there(cluster: TshCluster, tmp_path: Path) -> None:
    """A node that is away is unreachable to Ansible, with the proxy's words; the other goes on."""
    person = machine(cluster, tmp_path, ("db1.main", "db9.main"), "")
    (tmp_path / "playbook.yaml").write_text(PLAYBOOK[: PLAYBOOK.index("    - name: a template")])
    done = play(person, tmp_path)
    assert done.returncode == 4
    assert "there is no node 'db9.main'" in done.stdout + done.stderr
    assert "db1.main                   : ok=1" in done.stdout
    assert "db9.main                   : ok=0    changed=0    unreachable=1" in done.stdout
