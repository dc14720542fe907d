"""tctl against a running auth service: what it prints, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest
import yaml

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Heartbeat, JoinRequest, Membership, Presence
from runtime.api.people_messages import LoginReply, LoginRequest, SignupQuery, SignupRequest
from runtime.auth.declared import Declared
from runtime.core.callers import CallerKind
from runtime.core.resources import Origin, load_documents
from runtime.pki.export import parse_authorities
from runtime.pki.keys import generate_key
from tests.servers.auth_port import CLOCK
from tests.servers.auth_thread import STATIC, AuthThread, auth_thread, failed, ok, run
from tests.servers.teleport import Teleport

ROLE = """
apiVersion: teleport.internal/v1
kind: Role
metadata: {name: NAME}
spec: {allow: {logins: [dev], nodeLabels: {env: [staging, test], team: ["*"]}}}
"""
USER = """
apiVersion: teleport.internal/v1
kind: User
metadata: {name: NAME}
spec: {logins: [NAME]}
"""
PASSWORD = "correct horse battery"


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[AuthThread]:
    """Yield a running auth service."""
    with auth_thread(tmp_path) as auth:
        yield auth


def sign_up(auth: AuthThread, token: str) -> pyotp.TOTP:
    """Complete an invite as a proxy does, and return the person's generator."""
    generator = sign_up_with(auth, token, lambda made: made.at(CLOCK.now() - timedelta(seconds=30)))
    assert isinstance(generator, pyotp.TOTP)
    return generator


def sign_up_with(auth: AuthThread, token: str, code: Callable[[Any], str]) -> pyotp.OTP:
    """Complete an invite with the code that is made of the generator on the page, and return the generator."""

    async def work(proxy: AuthClient) -> pyotp.OTP:
        query = {"token": token, "address": "192.0.2.1"}
        form = await proxy.call(methods.SIGNUP_SHOW, SignupQuery.model_validate(query))
        generator = pyotp.parse_uri(form.otp_uri)
        typed = {"password": PASSWORD, "otp": code(generator)}
        await proxy.call(methods.SIGNUP_COMPLETE, SignupRequest.model_validate({**query, **typed}))
        return generator

    return auth.local(CallerKind.PROXY, str(auth.identity(CallerKind.PROXY).id), work)


def log_in(auth: AuthThread, user: str, password: str, otp: str) -> LoginReply:
    """Log in through a proxy."""

    async def work(proxy: AuthClient) -> LoginReply:
        request = {"user": user, "password": password, "otp": otp, "public_key": generate_key().public.line}
        return await proxy.call(methods.LOGIN, LoginRequest.model_validate({**request, "address": "192.0.2.1"}))

    return auth.local(CallerKind.PROXY, str(auth.identity(CallerKind.PROXY).id), work)


def token_in(text: str) -> str:
    """Return the token of a sign-up URL."""
    found = re.search(r"/web/newuser/([0-9a-f]{32})$", text, re.MULTILINE)
    assert found
    return found[1]


# --- users -------------------------------------------------------------------------------------------------------


def test_a_user_from_add_to_del(auth: AuthThread) -> None:
    """An invited user is listed once it has signed up; reset takes its password away, del takes all."""
    token = token_in(ok(auth.tctl("users", "add", "joe", "joe,root")))
    assert "joe" not in ok(auth.tctl("users", "ls"))
    assert ok(auth.tctl("users", "ls", "--all")).splitlines()[2].split() == ["joe", "joe,root", "invited"]
    totp = sign_up(auth, token)
    assert ok(auth.tctl("users", "ls")).splitlines()[2].split() == ["joe", "joe,root"]
    assert log_in(auth, "joe", PASSWORD, totp.at(CLOCK.now())).user == "joe"

    again = token_in(ok(auth.tctl("users", "reset", "joe")))
    assert "joe" not in ok(auth.tctl("users", "ls"))
    with pytest.raises(Exception, match="wrong user name"):
        log_in(auth, "joe", PASSWORD, totp.at(CLOCK.now() + timedelta(seconds=30)))
    sign_up(auth, again)
    assert ok(auth.tctl("users", "del", "joe")) == "User 'joe' has been deleted\n"
    assert "joe" not in ok(auth.tctl("users", "ls", "--all"))
    kinds = [event["event"] for event in auth.events()]
    assert [kind for kind in kinds if kind.startswith("user.")] == [
        "user.invited",
        "user.signup",
        "user.reset",
        "user.invited",
        "user.signup",
        "user.deleted",
    ]


@pytest.mark.parametrize("command", [["add", "ann", "--otp", "hotp"], ["reset", "ann", "--otp", "hotp", "--ttl", "5m"]])
def test_a_user_with_a_token_that_counts(auth: AuthThread, command: list[str]) -> None:
    """With --otp hotp the page shows a generator that counts (RFC 4226), and each of its codes logs in once."""
    if command[0] == "reset":
        ok(auth.tctl("users", "add", "ann"))
    hotp = sign_up_with(auth, token_in(ok(auth.tctl("users", *command))), lambda made: str(made.at(0)))
    assert isinstance(hotp, pyotp.HOTP)
    assert log_in(auth, "ann", PASSWORD, hotp.at(1)).user == "ann"
    with pytest.raises(Exception, match="wrong user name"):
        log_in(auth, "ann", PASSWORD, hotp.at(1))


def test_the_default_login_is_the_users_own_name(auth: AuthThread) -> None:
    """Without logins a user may log in as itself (manual, the user ross)."""
    ok(auth.tctl("users", "add", "ross"))
    assert ok(auth.tctl("users", "ls", "--all")).splitlines()[2].split() == ["ross", "ross", "invited"]


def test_the_url_is_the_proxys(auth: AuthThread) -> None:
    """Where proxies are known, the URL is complete and the note names them."""
    identity = auth.identity(CallerKind.PROXY)

    async def beat(proxy: AuthClient) -> None:
        presence = Presence(
            id=identity.id,
            kind=CallerKind.PROXY,
            name="edge",
            addr="edge.example:3023",
            labels={"web": "edge.example:3080"},
        )
        await proxy.call(methods.HEARTBEAT, Heartbeat(presence=presence))

    auth.local(CallerKind.PROXY, str(identity.id), beat)
    out = ok(auth.tctl("users", "add", "joe", "--ttl=90s"))
    assert re.fullmatch(
        r"Signup token has been created and is valid for 90 seconds\. Share this URL with the user:\n"
        r"https://edge\.example:3080/web/newuser/[0-9a-f]{32}\n\n"
        r"NOTE: make sure the edge\.example host is accessible\.\n",
        out,
    )


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["add", "joe"], "user joe exists already", "tctl get user/joe"),
        (["add", "Joe"], "user 'Joe': expected a name", ""),
        (["add", "a\x1bb"], r"user 'a\x1bb': expected a name", ""),
        (["add", "a,b"], "user 'a,b': expected a name", ""),
        (["add", ""], "user '': expected a name", ""),
        (["add", "../x"], "user '../x': expected a name", ""),
        (["add", "1st"], "login '1st': expected a login", "tctl users add 1st LOGINS"),
        (["add", "ann", "Root"], "login 'Root': expected a login", ""),
        (["add", "ann", "ann,ann"], "logins names something twice", ""),
        (["add", "ann", "--ttl=59s"], "an invite cannot hold for 59s", "1m to 30h"),
        (["add", "ann", "--ttl=31h"], "an invite cannot hold for 31h", "1m to 30h"),
        (["del", "ann"], "there is no user ann", "tctl get users"),
        (["reset", "ann"], "there is no user ann", "tctl get users"),
    ],
)
def test_a_user_that_cannot_be(auth: AuthThread, arguments: list[str], message: str, hint: str) -> None:
    """A second user of a name, a name that is none, a user who is not there: each is told, and nothing is changed."""
    ok(auth.tctl("users", "add", "joe"))
    before = ok(auth.tctl("users", "ls", "--all"))
    said = failed(auth.tctl("users", *arguments))
    assert message in said
    assert hint in said
    assert "\x1b" not in said
    assert ok(auth.tctl("users", "ls", "--all")) == before


def test_del_says_how_far_it_came(auth: AuthThread) -> None:
    """Of several users those before the one that is missing are deleted, and named."""
    ok(auth.tctl("users", "add", "joe"))
    outcome = auth.tctl("users", "del", "joe", "ann")
    assert (outcome.code, outcome.out) == (1, "User 'joe' has been deleted\n")
    assert "there is no user ann" in outcome.err


def test_a_locked_user_is_listed_as_such_and_reset_unlocks(auth: AuthThread) -> None:
    """Five wrong passwords lock who has signed up; a name that only was guessed at does not show as locked."""
    sign_up(auth, token_in(ok(auth.tctl("users", "add", "joe"))))
    ok(auth.tctl("users", "add", "ann"))

    async def guess(proxy: AuthClient) -> None:
        for number in range(10):
            typed = {"user": ("joe", "ann")[number % 2], "password": "wrong", "public_key": generate_key().public.line}
            request = LoginRequest.model_validate({**typed, "address": f"203.0.113.{number}"})
            with pytest.raises(Exception, match="wrong user name"):
                await proxy.call(methods.LOGIN, request)

    auth.local(CallerKind.PROXY, str(auth.identity(CallerKind.PROXY).id), guess)
    status = {line.split()[0]: line.split()[-1] for line in ok(auth.tctl("users", "ls", "--all")).splitlines()[2:]}
    assert status == {"joe": "locked", "ann": "invited"}
    assert "joe" in ok(auth.tctl("users", "ls"))
    totp = sign_up(auth, token_in(ok(auth.tctl("users", "reset", "joe"))))
    assert log_in(auth, "joe", PASSWORD, totp.at(CLOCK.now())).user == "joe"


def test_users_for_programs(auth: AuthThread) -> None:
    """JSON and YAML hold the same, and the invite is in them too."""
    invite = json.loads(ok(auth.tctl("users", "add", "joe", "joe,root", "--format=json")))
    assert set(invite) == {"user", "token", "expires", "urls"}
    expected = [
        {"name": "joe", "logins": ["joe", "root"], "roles": ["user:joe"], "origin": "tctl", "status": "invited"}
    ]
    assert json.loads(ok(auth.tctl("users", "ls", "--all", "--format=json"))) == expected
    assert yaml.safe_load(ok(auth.tctl("users", "ls", "--all", "--format=yaml"))) == expected
    assert json.loads(ok(auth.tctl("users", "ls", "--format=json"))) == []


# --- nodes and tokens --------------------------------------------------------------------------------------------


def test_a_token_is_listed_and_revoked(auth: AuthThread) -> None:
    """Each kind of token is in the list under its kind, and is gone once deleted; the audit log has no token in it."""
    node = ok(auth.tctl("nodes", "add", "--token=0123456789abcdef0123456789abcdef"))
    assert node.startswith("The invite token: 0123456789abcdef0123456789abcdef\n")
    signup = token_in(ok(auth.tctl("users", "add", "joe")))
    rows = [line.split()[:2] for line in ok(auth.tctl("tokens", "ls")).splitlines()[2:]]
    assert rows == [[STATIC.token, "Proxy"], ["0123456789abcdef0123456789abcdef", "Node"], [signup, "Signup"]]
    for token in ("0123456789abcdef0123456789abcdef", signup):
        assert ok(auth.tctl("tokens", "del", token)) == f"Token {token} has been deleted\n"
        assert "there is no such token" in failed(auth.tctl("tokens", "del", token))
    assert [line.split()[0] for line in ok(auth.tctl("tokens", "ls")).splitlines()[2:]] == [STATIC.token]
    assert signup not in json.dumps(auth.events())


def test_a_static_token_says_why_it_stays(auth: AuthThread) -> None:
    """A token of teleport.yaml cannot be revoked (manual, "Revoking Invitations"), and the error says where it is."""
    said = failed(auth.tctl("tokens", "del", STATIC.token))
    assert "static token: it stands in teleport.yaml" in said
    assert "auth_service.tokens" in said
    assert STATIC.token in ok(auth.tctl("tokens", "ls"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--token=short"], "16 or more printable ASCII"),
        (["--token=0123456789abcdef\x1b"], "16 or more printable ASCII"),
        (["--token=0123456789abcdef0123456789abcdef"], "there is such a token already"),
        (["--ttl=59s"], "a token cannot live for 59s"),
        (["--ttl=31h"], "a token cannot live for 31h"),
    ],
)
def test_a_token_that_cannot_be(auth: AuthThread, arguments: list[str], message: str) -> None:
    """A token that is too easy, too long-lived or there already is refused."""
    ok(auth.tctl("nodes", "add", "--token=0123456789abcdef0123456789abcdef"))
    assert message in failed(auth.tctl("nodes", "add", *arguments))


def test_the_command_to_join_can_be_pasted(auth: AuthThread) -> None:
    """Whatever somebody picks as a token is one word of the printed command, and nothing of it is run."""
    token = 'it\'s $(reboot); `reboot` "x" && y'
    out = ok(auth.tctl("nodes", "add", f"--token={token}", "--roles=node, proxy,node", "--ttl=1m"))
    (line,) = [line for line in out.splitlines() if line.startswith("> ")]
    words = shlex.split(line[2:])
    assert words[:5] == ["teleport", "start", "--roles=node,proxy", f"--token={token}", f"--auth-server={auth.address}"]
    assert words[5].startswith("--ca-pin=SHA256:")
    assert "expire in 1 minute\n" in out


def test_a_token_for_trusted_clusters_joins_no_node(auth: AuthThread) -> None:
    """For a trusted cluster no command to start a node is printed."""
    out = ok(auth.tctl("nodes", "add", "--roles=trustedcluster", "--ttl=90s", "--max-uses=1"))
    assert "teleport start" not in out
    assert "expire in 1m30s" in out
    assert "TrustedCluster" in ok(auth.tctl("tokens", "ls"))


def test_labels_of_a_token_and_of_a_node(auth: AuthThread) -> None:
    """A node shows up with what its token imposed, over what it says; what it says moves no terminal."""
    created = json.loads(ok(auth.tctl("nodes", "add", "--labels=env=prod", "--max-uses=1", "--format=json")))
    assert created["auth_servers"] == [auth.address]
    request = {
        "token": created["entry"]["token"],
        "roles": ["node"],
        "name": "db1",
        "public_key": generate_key().public.line,
    }

    async def join(newcomer: AuthClient) -> Membership:
        return await newcomer.call(methods.JOIN, JoinRequest.model_validate(request))

    member = auth.local(CallerKind.NOBODY, "", join)

    async def beat(node: AuthClient) -> None:
        labels = {"env": "dev", "a\x1b[2J": "b\x1b[2J\nc\u202e"}
        presence = Presence(id=member.id, kind=CallerKind.NODE, name="db1", addr="127.0.0.1:3022", labels=labels)
        await node.call(methods.HEARTBEAT, Heartbeat(presence=presence))

    auth.local(CallerKind.NODE, str(member.id), beat)
    row = ok(auth.tctl("nodes", "ls")).splitlines()[2]
    assert row.split() == ["db1", str(member.id), "127.0.0.1:3022", r"a\x1b[2J=b\x1b[2J\x0ac\u202e,env=prod"]
    as_json = ok(auth.tctl("nodes", "ls", "--format=json"))
    assert as_json.isascii()
    assert "\x1b" not in as_json
    assert json.loads(as_json)[0]["presence"]["labels"] == {"env": "prod", "a\x1b[2J": "b\x1b[2J\nc\u202e"}
    assert created["entry"]["token"] not in ok(auth.tctl("tokens", "ls"))  # it was used up


# --- authorities and identities ----------------------------------------------------------------------------------


def test_what_is_exported_can_be_read_back(auth: AuthThread) -> None:
    """Both authorities, each alone, in both formats, and by fingerprint."""
    both = parse_authorities(ok(auth.tctl("auth", "export")), source="export")
    assert [key.type.value for key in both] == ["user", "host"]
    for kind in ("user", "host"):
        (alone,) = parse_authorities(ok(auth.tctl("auth", "export", f"--type={kind}")), source="export")
        assert alone in both
        assert alone.type.value == kind
        assert ok(auth.tctl("auth", f"--type={kind}", "export")) == ok(auth.tctl("auth", "export", f"--type={kind}"))
        by_key = ok(auth.tctl("auth", "export", f"--fingerprint={alone.key.fingerprint}"))
        assert parse_authorities(by_key, source="export") == [alone]
        assert alone.key.fingerprint in ok(auth.tctl("auth", "ls"))
    assert ok(auth.tctl("auth", "--type=user", "export", "--type=host")).startswith("@cert-authority *.main,main ")
    assert ok(auth.tctl("auth", "export", "--type=user")).startswith("cert-authority ssh-ed25519 ")
    assert ok(auth.tctl("auth", "export", "--type=user", "--compat=1.0")).startswith("@cert-authority ")
    assert "no authority of this cluster has such a key" in failed(
        auth.tctl("auth", "export", "--fingerprint=SHA256:x")
    )


def test_an_administrator_elsewhere(auth: AuthThread, tmp_path: Path) -> None:
    """A signed identity administers from anywhere, options before or after the subcommand, until its time is over."""
    file = tmp_path / "ops.identity"
    outcome = auth.tctl("auth", "sign", f"--out={file}", "--ttl=1h")
    assert (outcome.code, outcome.out) == (0, "")
    assert "is an administrator of main until" in outcome.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    options = ["--identity", str(file), "--auth-server", auth.address]
    assert token_in(ok(run(*options, "users", "add", "joe")))
    assert "joe" in ok(run("users", "ls", "--all", *options))
    (event,) = [event for event in auth.events() if event["event"] == "admin.signed"]
    assert event["server_id"] in file.read_text()
    (added,) = [event for event in auth.events() if event["event"] == "user.invited"]
    assert event["server_id"] in added["by"]


def test_a_signed_identity_signs_no_others(auth: AuthThread, tmp_path: Path) -> None:
    """Else it could outlive itself."""
    file = tmp_path / "ops.identity"
    auth.tctl("auth", "sign", f"--out={file}", "--ttl=1m")
    options = ["--identity", str(file), "--auth-server", auth.address]
    said = failed(run(*options, "auth", "sign", f"--out={tmp_path / 'more.identity'}"))
    assert "signs no others" in said
    assert not (tmp_path / "more.identity").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out={there}"], "is there already"),
        (["--out={tmp}/none/x"], "there is no folder"),
        (["--out={tmp}/x", "--ttl=59s"], "lifetime of 0:00:59"),
        (["--out={tmp}/x", "--ttl=31h"], "lifetime of"),
    ],
)
def test_an_identity_that_cannot_be_made(auth: AuthThread, tmp_path: Path, arguments: list[str], message: str) -> None:
    """Nothing is overwritten unasked, and no file is left behind when auth refuses."""
    there = tmp_path / "there.identity"
    there.write_text("mine")
    before = sorted(tmp_path.iterdir())
    said = failed(auth.tctl("auth", "sign", *(word.format(there=there, tmp=tmp_path) for word in arguments)))
    assert message in said
    assert sorted(tmp_path.iterdir()) == before
    assert there.read_text() == "mine"
    assert auth.tctl("auth", "sign", f"--out={there}", "--force").code == 0
    assert there.read_text() != "mine"


def test_auth_that_is_away(auth: AuthThread, tmp_path: Path) -> None:
    """Where nobody listens, the address is named, with what to look at, and exit code 1."""
    auth.tctl("auth", "sign", f"--out={tmp_path / 'x'}")
    said = failed(run("--identity", str(tmp_path / "x"), "--auth-server", "127.0.0.1:1", "users", "ls"))
    assert "127.0.0.1" in said
    assert "cannot be reached" in said
    assert "See that teleport runs there" in said


# --- resources ---------------------------------------------------------------------------------------------------


def test_documents_go_in_and_come_out(auth: AuthThread) -> None:
    """What get prints as YAML or JSON, create takes back and makes the same of."""
    outcome = auth.tctl("create", "-", stdin=f"{ROLE.replace('NAME', 'dev')}---{USER.replace('NAME', 'ann')}")
    assert ok(outcome).startswith("Role 'dev' has been created\nUser 'ann' has been created\nSignup token has been ")
    assert token_in(outcome.out)
    for shape in ("yaml", "json"):
        for kind in ("roles", "users", "role/dev", "users/ann", "tusers", "Role"):
            printed = ok(auth.tctl("get", kind, f"--format={shape}"))
            names = [resource.name for resource in load_documents(printed, source="printed")]
            assert names == ["dev" if "ole" in kind else "ann"]
        every = ok(auth.tctl("get", "roles", f"--format={shape}"))
        ok(auth.tctl("rm", "role/dev"))
        assert ok(auth.tctl("create", "-f", "-", stdin=every)) == "Role 'dev' has been created\n"
        assert ok(auth.tctl("get", "roles", f"--format={shape}")) == every


def test_files_and_folders(auth: AuthThread, tmp_path: Path) -> None:
    """A folder stands for its documents in order of their names; files and folders can be mixed."""
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.yml", "a.yaml", "c.json", "readme.md", "sub/d.yaml"):
        (folder / name).write_text(ROLE.replace("NAME", name[0]))
    (folder / "c.json").write_text(json.dumps(yaml.safe_load(ROLE.replace("NAME", "c"))))
    (tmp_path / "e.yaml").write_text(ROLE.replace("NAME", "e"))
    out = ok(auth.tctl("create", str(tmp_path / "e.yaml"), "--filename", str(folder)))
    assert re.findall(r"Role '(.)' has been created", out) == ["e", "a", "b", "c"]


def test_one_mistake_stops_all(auth: AuthThread, tmp_path: Path) -> None:
    """Every mistake in every file is told with its line, and nothing is written."""
    (tmp_path / "good.yaml").write_text(ROLE.replace("NAME", "good"))
    (tmp_path / "bad.yaml").write_text(ROLE.replace("NAME", "bad").replace("allow", "alow"))
    (tmp_path / "worse.yaml").write_text("a: [")
    (tmp_path / "twice.yaml").write_text(ROLE.replace("NAME", "good"))
    files = [str(tmp_path / name) for name in ("good.yaml", "bad.yaml", "worse.yaml", "twice.yaml")]
    said = failed(auth.tctl("create", *files))
    assert "bad.yaml:5: Role bad: spec.alow: is not a field here; did you mean allow?" in said
    assert "worse.yaml:" in said
    assert f"twice.yaml:4: Role good: metadata.name: is declared before, at {tmp_path}/good.yaml:4" in said
    assert "Nothing was written" in said
    assert len(ok(auth.tctl("get", "roles")).splitlines()) == 2


@pytest.mark.parametrize(
    ("sources", "stdin", "message"),
    [
        (["{tmp}/none.yaml"], "", "none.yaml cannot be read: No such file"),
        (["{tmp}/empty"], "", "holds no file named *.yaml"),
        (["-"], "", "stdin: holds no resource"),
        (["{tmp}/binary.yaml"], "", "binary.yaml:2: is not UTF-8 text"),
        (["-"], "kind: Secret\nmetadata: {name: x}\n", "expected one of User, Role, Token, TrustedCluster"),
        (["-"], ROLE.replace("NAME", "user:joe"), "the cluster makes user: roles itself"),
        (["-"], ROLE.replace("{name: NAME}", "{name: x, origin: kubernetes}"), "is set by what applies the document"),
    ],
)
def test_what_cannot_be_created(auth: AuthThread, tmp_path: Path, sources: list[str], stdin: str, message: str) -> None:
    """A file that is not there, holds nothing, or something else, is told by name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"a: b\n\xff\n")
    said = failed(auth.tctl("create", *(source.format(tmp=tmp_path) for source in sources), stdin=stdin))
    assert message in said


def test_overwriting_is_asked_for(auth: AuthThread) -> None:
    """A second document of a name is refused, and taken with --force."""
    ok(auth.tctl("create", "-", stdin=ROLE.replace("NAME", "dev")))
    other = ROLE.replace("NAME", "dev").replace("[dev]", "[ops]")
    outcome = auth.tctl("create", "-", stdin=f"{other}---{ROLE.replace('NAME', 'more')}")
    assert "role dev exists already" in failed(outcome)
    assert "Not reached: Role 'more'" in outcome.err
    assert ok(auth.tctl("create", "--force", "-", stdin=other)) == "Role 'dev' has been updated\n"
    assert "ops" in ok(auth.tctl("get", "role/dev"))


@pytest.mark.parametrize("origin", [Origin.KUBERNETES, Origin.CONFIG])
def test_what_others_declare_is_theirs(auth: AuthThread, origin: Origin) -> None:
    """What Kubernetes or teleport.yaml declares, tctl shows and does not touch, unless its document says adopt."""
    (user,) = load_documents(USER.replace("NAME", "joe"), source="test")
    auth.run(Declared(auth.backend).create(user.with_origin(origin)))
    assert ok(auth.tctl("get", "users")).splitlines()[2].split() == ["joe", "joe", origin]
    for attempt in (["users", "del", "joe"], ["rm", "user/joe"], ["create", "--force", "-"]):
        said = failed(auth.tctl(*attempt, stdin=USER.replace("NAME", "joe")))
        assert f"user joe is declared by {origin}, not by tctl" in said
        assert "teleport.internal/adopt" in said
    adopted = USER.replace("{name: NAME}", '{name: joe, annotations: {teleport.internal/adopt: "true"}}')
    assert ok(auth.tctl("create", "--force", "-", stdin=adopted.replace("NAME", "joe"))).endswith("updated\n")
    ok(auth.tctl("users", "del", "joe"))


def test_roles_that_logins_make(auth: AuthThread) -> None:
    """The table of roles has them, programs get them by name, and neither create nor rm touches them."""
    ok(auth.tctl("users", "add", "joe", "joe,root"))
    assert "user:joe" in ok(auth.tctl("get", "roles"))
    assert json.loads(ok(auth.tctl("get", "roles", "--format=json")))["items"] == []
    role = json.loads(ok(auth.tctl("get", "role/user:joe", "--format=json")))
    assert role["spec"]["allow"]["logins"] == ["joe", "root"]
    assert "there is no role user:ann" in failed(auth.tctl("get", "role/user:ann"))
    assert "made by the logins of user joe" in failed(auth.tctl("rm", "role/user:joe"))


@pytest.mark.parametrize("kind", ["user", "role", "token", "trusted_cluster", "trustedclusters"])
def test_what_is_not_there(auth: AuthThread, kind: str) -> None:
    """Getting and removing what does not exist say so."""
    for command in ("get", "rm"):
        assert "there is no" in failed(auth.tctl(command, f"{kind}/none"))


def test_tables_of_the_other_kinds(auth: AuthThread) -> None:
    """Tokens and trusted clusters that are declared have tables too."""
    documents = """
apiVersion: teleport.internal/v1
kind: Token
metadata: {name: web}
spec: {roles: [node], ttl: 5m, maxUses: 10, labels: {env: prod}}
---
apiVersion: teleport.internal/v1
kind: TrustedCluster
metadata: {name: root}
spec:
  proxy: {webAddr: proxy.example:3080, tunnelAddr: proxy.example:3024}
  tokenSecretRef: {name: join-main}
  roleMap: [{remote: admin, local: [admin, dev]}]
  allowLogins: [john]
"""
    created = auth.tctl("create", "-", stdin=documents)
    assert created.code == 0
    assert "cluster root is not trusted: its Secret join-main was not given" in created.err
    assert ok(auth.tctl("get", "tokens")).splitlines()[2].split() == ["web", "node", "5m", "10", "env=prod"]
    row = ok(auth.tctl("get", "trusted_clusters")).splitlines()[2].split()
    assert row[:5] == ["root", "yes", "proxy.example:3024", "john", "admin:admin|dev"]
    assert row[5] in ("Pending", "SecretNotFound")  # auth looks at it at about the same time


def test_removing_a_user_document_removes_the_person(auth: AuthThread) -> None:
    """Removing a user takes its password along, as users del does: a new user of the name starts without it."""
    totp = sign_up(auth, token_in(ok(auth.tctl("users", "add", "joe"))))
    ok(auth.tctl("rm", "user/joe"))
    ok(auth.tctl("users", "add", "joe"))
    with pytest.raises(Exception, match="wrong user name"):
        log_in(auth, "joe", PASSWORD, totp.at(CLOCK.now()))


# --- as a process ------------------------------------------------------------------------------------------------


def test_tctl_beside_a_real_teleport(tmp_path: Path) -> None:
    """`teleport start` leaves the identity that `tctl` on its machine needs; data and talk go their ways."""
    with Teleport(tmp_path / "auth") as teleport:
        teleport.start()
        added = teleport.tctl("users", "add", "joe", "joe,root")
        assert (added.returncode, added.stderr) == (0, "")
        assert token_in(added.stdout)
        again = teleport.tctl("users", "add", "joe")
        assert (again.returncode, again.stdout) == (1, "")
        assert "error: user joe exists already" in again.stderr
        assert teleport.tctl("users", "ad").returncode == 2
        nodes = teleport.tctl("nodes", "add", "--format=json")
        assert json.loads(nodes.stdout)["auth_servers"] == [teleport.auth_address]
        teleport.stop()
        away = teleport.tctl("users", "ls")
        assert (away.returncode, away.stdout) == (1, "")
        assert "cannot be reached" in away.stderr
