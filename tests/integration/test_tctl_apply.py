"""tctl plan and tctl apply against a running auth service: documents as kubectl takes them become true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.people_messages import LoginReply, LoginRequest
from runtime.auth.declared import Declared
from runtime.core.callers import CallerKind
from runtime.core.errors import AccessDenied
from runtime.core.resources import Origin, encode, key_of, load_documents
from runtime.pki.keys import generate_key
from tests.servers.auth_port import CLOCK
from tests.servers.auth_thread import AuthThread, Outcome, auth_thread

ROLE = """
apiVersion: teleport.internal/v1
kind: Role
metadata: {name: NAME}
spec: {allow: {logins: [dev], nodeLabels: {env: [staging, test]}}}
"""
USER = """
apiVersion: teleport.internal/v1
kind: User
metadata: {name: NAME}
spec: {logins: [NAME], roles: [dev]}
"""
TOKEN = """
apiVersion: teleport.internal/v1
kind: Token
metadata: {name: NAME}
spec: {roles: [node], ttl: 5m, secretRef: {name: NAME-secret}}
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: NAME-secret}
stringData: {token: VALUE}
"""
VALUE = "1f0e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[AuthThread]:
    """Yield a running auth service whose truth is the storage."""
    with auth_thread(tmp_path / "auth") as auth:
        yield auth


def named(template: str, name: str) -> str:
    """Return a document of that name."""
    return template.replace("NAME", name)


def joined(*documents: str) -> str:
    """Return one text of several documents."""
    return "---\n".join(documents)


def ended(outcome: Outcome, code: int) -> str:
    """Return what a command printed; it ended with that exit code."""
    assert outcome.code == code, outcome.out + outcome.err
    return outcome.out


def stored(auth: AuthThread) -> dict[str, bytes]:
    """Return all documents in the storage."""
    return {item.key: item.value for item in auth.run(auth.backend.range("resources/")).items}


BOTH = joined(named(USER, "joe"), named(ROLE, "dev"))


# --- the way it should go ----------------------------------------------------------------------------------------


def test_plan_apply_plan(auth: AuthThread) -> None:
    """The plan names each field and ends with 2; applied, the same documents end with 0 and write nothing."""
    before = stored(auth)
    assert ended(auth.tctl("plan", "-f", "-", stdin=BOTH), 2) == (
        "+ Role dev: is new\n"
        "    + spec.allow.logins: [dev]\n"
        "    + spec.allow.nodeLabels.env: [staging, test]\n"
        "+ User joe: is new\n"
        "    + spec.logins: [joe]\n"
        "    + spec.roles: [dev]\n"
        "\n"
        "Plan: 2 to create.\n"
    )
    assert stored(auth) == before
    assert ended(auth.tctl("apply", "-f", "-", stdin=BOTH), 0).startswith(
        "Role 'dev' has been created\nUser 'joe' has been created\nSignup token has been created"
    )
    there = stored(auth)
    nothing = "No difference: 2 resources are as declared.\n"
    assert ended(auth.tctl("plan", "-f", "-", stdin=BOTH), 0) == nothing
    assert ended(auth.tctl("apply", "-f", "-", stdin=BOTH), 0) == nothing
    assert stored(auth) == there

    changed = joined(named(USER, "joe").replace("[joe]", "[joe, root]"), named(ROLE, "dev"))
    assert ended(auth.tctl("plan", "-", stdin=changed), 2) == (
        "~ User joe: is not as declared\n    ~ spec.logins: [joe] → [joe, root]\n\nPlan: 1 to update, 1 unchanged.\n"
    )
    assert ended(auth.tctl("apply", "-", stdin=changed), 0) == "User 'joe' has been updated\n"
    written = [event for event in auth.events() if event["event"] == "resource.written"]
    assert [event["name"] for event in written] == ["dev", "joe", "joe"]


def test_pruning(auth: AuthThread) -> None:
    """With --prune what the documents do not name any more is deleted, users before roles; without it stays."""
    ended(auth.tctl("apply", "-f", "-", stdin=joined(BOTH, named(ROLE, "old"), named(USER, "bob"))), 0)
    assert ended(auth.tctl("plan", "-f", "-", stdin=BOTH), 0).startswith("No difference: 2")
    assert ended(auth.tctl("plan", "-f", "-", "--prune", stdin=BOTH), 2) == (
        "- User bob: no document declares it any more\n"
        "- Role old: no document declares it any more\n"
        "\n"
        "Plan: 2 to delete, 2 unchanged.\n"
    )
    assert ended(auth.tctl("apply", "-f", "-", "--prune", stdin=BOTH), 0) == (
        "User 'bob' has been deleted\nRole 'old' has been deleted\n"
    )
    assert sorted(stored(auth)) == ["resources/Role/dev", "resources/User/joe"]


def test_a_deleted_user_leaves_nothing_behind(auth: AuthThread) -> None:
    """Pruned as deleted by hand: its invite is gone."""
    ended(auth.tctl("apply", "-f", "-", stdin=BOTH), 0)
    ended(auth.tctl("users", "reset", "joe"), 0)
    assert "Signup" in auth.tctl("tokens", "ls").out
    ended(auth.tctl("apply", "-f", "-", "--prune", stdin=named(ROLE, "dev")), 0)
    assert "Signup" not in auth.tctl("tokens", "ls").out


def test_what_kubectl_takes(auth: AuthThread, tmp_path: Path) -> None:
    """Files, folders, folders in folders, Lists, JSON, what kubectl get prints; other groups are skipped and named."""
    folder = tmp_path / "cluster"
    (folder / "people" / ".git").mkdir(parents=True)
    (folder / "roles.yaml").write_text(
        joined(named(ROLE, "dev"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n")
    )
    (folder / "rbac.yml").write_text(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: dev}\nrules: []\n"
    )
    printed = {
        "apiVersion": "teleport.internal/v1",
        "kind": "User",
        "metadata": {"name": "joe", "uid": "1", "resourceVersion": "7", "managedFields": [], "generation": 3},
        "spec": {"logins": ["joe"], "roles": ["dev"]},
        "status": {"conditions": []},
    }
    (folder / "people" / "list.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [printed]}))
    (folder / "people" / ".git" / "x.yaml").write_text("nonsense")
    flat = auth.tctl("plan", "-f", str(folder))
    assert "User joe" not in ended(flat, 2)
    outcome = auth.tctl("apply", "-R", "-f", str(folder))
    assert ended(outcome, 0).startswith("Role 'dev' has been created\nUser 'joe' has been created\n")
    assert (
        f"skipped, not of teleport.internal: {folder}/rbac.yml:1: Role dev (rbac.authorization.k8s.io/v1)"
        in outcome.err
    )
    assert "roles.yaml:7: Namespace x (v1)" in outcome.err
    assert ended(auth.tctl("plan", "-R", str(folder), str(folder / "roles.yaml")), 0)


def test_plan_for_programs(auth: AuthThread) -> None:
    """All steps with their fields, and how many of each; what was done, too."""
    plan = json.loads(ended(auth.tctl("plan", "-f", "-", "--format=json", stdin=BOTH), 2))
    assert plan["summary"] == {"create": 2, "update": 0, "adopt": 0, "delete": 0, "refuse": 0, "unchanged": 0}
    assert plan["steps"][1]["changes"] == [
        {"path": "spec.logins", "old": None, "new": ["joe"]},
        {"path": "spec.roles", "old": None, "new": ["dev"]},
    ]
    done = json.loads(ended(auth.tctl("apply", "-f", "-", "--format=json", stdin=BOTH), 0))
    assert [(each["action"], each["kind"], each["name"]) for each in done["done"]] == [
        ("create", "Role", "dev"),
        ("create", "User", "joe"),
    ]
    assert json.loads(ended(auth.tctl("apply", "-f", "-", "--format=json", stdin=BOTH), 0)) == {"done": []}


def test_a_role_that_does_not_exist_is_a_warning(auth: AuthThread) -> None:
    """The user is written; plan and apply say what he cannot do, each time, until the role is there."""
    warning = "has the role dev, which does not exist: may do nothing until it does"
    assert warning in ended(auth.tctl("plan", "-f", "-", stdin=named(USER, "joe")), 2)
    for _ in range(2):
        outcome = auth.tctl("apply", "-f", "-", stdin=named(USER, "joe"))
        ended(outcome, 0)
        assert warning in outcome.err
    ended(auth.tctl("apply", "-f", "-", stdin=named(ROLE, "dev")), 0)
    assert "warning" not in auth.tctl("apply", "-f", "-", stdin=named(USER, "joe")).err


# --- origins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [Origin.KUBERNETES, Origin.CONFIG])
def test_what_another_origin_declared(auth: AuthThread, origin: Origin) -> None:
    """It is refused, nothing else is written either, and prune does not see it; adopt takes it over."""
    (theirs,) = load_documents(named(ROLE, "dev").replace("[dev]", "[ops]"), source="theirs")
    auth.run(auth.backend.put(key_of(theirs), encode(theirs.with_origin(origin))))
    before = stored(auth)
    outcome = auth.tctl("plan", "-f", "-", "--prune", stdin=BOTH)
    assert f"! Role dev: role dev is declared by {origin}, not by tctl\n" in ended(outcome, 1)
    assert "+ User joe: is new" in outcome.out
    assert "error: one resource cannot be applied" in outcome.err
    outcome = auth.tctl("apply", "-f", "-", "--prune", stdin=BOTH)
    assert ended(outcome, 1) == ""
    assert f"role dev is declared by {origin}, not by tctl" in outcome.err
    assert "Nothing was written." in outcome.err
    assert stored(auth) == before
    ended(auth.tctl("apply", "-f", "-", "--prune", stdin=named(USER, "joe")), 0)
    assert sorted(stored(auth)) == ["resources/Role/dev", "resources/User/joe"]

    adopting = BOTH.replace("{name: dev}", '{name: dev, annotations: {teleport.internal/adopt: "true"}}')
    plan = ended(auth.tctl("plan", "-f", "-", stdin=adopting), 2)
    assert f"> Role dev: was declared by {origin}\n" in plan
    assert "    ~ spec.allow.logins: [ops] → [dev]\n" in plan
    assert "Role 'dev' has been taken over\n" in ended(auth.tctl("apply", "-f", "-", stdin=adopting), 0)
    assert "No difference" in ended(auth.tctl("plan", "-f", "-", stdin=adopting), 0)


def test_what_tctl_made_is_tctls(auth: AuthThread) -> None:
    """A user of `tctl users add` is of the same origin: apply changes it, and prune deletes it."""
    ended(auth.tctl("users", "add", "ann", "ann,root"), 0)
    plan = ended(auth.tctl("plan", "-f", "-", "--prune", stdin=named(USER, "ann")), 2)
    assert "~ spec.logins: [ann, root] → [ann]" in plan
    assert "- User ann" in ended(auth.tctl("plan", "-f", "-", "--prune", stdin=named(ROLE, "dev")), 2)


# --- tokens ------------------------------------------------------------------------------------------------------


def test_a_token_without_a_secret_is_told_once(auth: AuthThread) -> None:
    """Its value is made and shown this once; it is listed by its name, and revoked by deleting its document."""
    out = ended(auth.tctl("apply", "-f", "-", stdin=named(TOKEN, "web")), 0)
    value = out.splitlines()[1].removeprefix("  its value, which is shown only now: ")
    assert len(value) == 32
    assert value not in auth.tctl("get", "token/web", "--format=yaml").out + auth.tctl("tokens", "ls").out
    assert value.encode() not in b"".join(stored(auth).values())
    assert "Token web" in auth.tctl("tokens", "ls").out
    assert "No difference" in ended(auth.tctl("apply", "-f", "-", stdin=named(TOKEN, "web")), 0)
    refused = auth.tctl("tokens", "del", value)
    ended(refused, 1)
    assert "tctl rm token/web" in refused.err
    ended(auth.tctl("rm", "token/web"), 0)
    assert "Token web" not in auth.tctl("tokens", "ls").out
    assert "there is no such token" in auth.tctl("tokens", "del", value).err


@pytest.mark.parametrize("where", ["among", "beside", "secrets"])
def test_where_a_secret_is_found(auth: AuthThread, tmp_path: Path, where: str) -> None:
    """Among the documents, in the folder given with --secrets, or in a file of its name beside the document."""
    folder, elsewhere = tmp_path / "docs", tmp_path / "secrets"
    folder.mkdir()
    elsewhere.mkdir()
    secret = named(SECRET, "web").replace("VALUE", VALUE)
    (folder / "token.yaml").write_text(named(TOKEN, "web"))
    arguments = ["-f", str(folder / "token.yaml")]
    if where == "among":
        (tmp_path / "other.yaml").write_text(secret)
        arguments += ["-f", str(tmp_path / "other.yaml")]
    elif where == "beside":
        (folder / "web-secret.yaml").write_text(secret)
    else:
        (elsewhere / "web-secret.yaml").write_text(secret)
        arguments += ["--secrets", str(elsewhere)]
    plan = auth.tctl("plan", *arguments)
    assert "    + value: (secret)\n" in ended(plan, 2)
    outcome = auth.tctl("apply", *arguments)
    assert ended(outcome, 0) == "Token 'web' has been created\n"
    assert VALUE not in plan.out + plan.err + outcome.out + outcome.err
    assert "declared by a document: Token web" in auth.tctl("tokens", "del", VALUE).err
    assert "No difference" in ended(auth.tctl("plan", *arguments), 0)


def test_a_new_value_in_the_secret(auth: AuthThread) -> None:
    """The old one is worthless; the plan says that there is another, and not which."""
    both = joined(named(TOKEN, "web"), named(SECRET, "web"))
    ended(auth.tctl("apply", "-f", "-", stdin=both.replace("VALUE", VALUE)), 0)
    changed = both.replace("VALUE", VALUE[::-1])
    assert ended(auth.tctl("plan", "-f", "-", stdin=changed), 2) == (
        "~ Token web: is not as declared\n    ~ value: (secret) → (secret)\n\nPlan: 1 to update.\n"
    )
    ended(auth.tctl("apply", "-f", "-", stdin=changed), 0)
    assert "no such token" in auth.tctl("tokens", "del", VALUE).err
    assert "declared by" in auth.tctl("tokens", "del", VALUE[::-1]).err


def test_create_gives_tokens_their_values_too(auth: AuthThread) -> None:
    """One implementation: what tctl create makes, tctl apply finds as declared."""
    both = joined(named(TOKEN, "web"), named(SECRET, "web").replace("VALUE", VALUE), named(TOKEN, "other"))
    out = ended(auth.tctl("create", "-f", "-", stdin=both), 0)
    assert out.count("its value, which is shown only now") == 1
    assert "No difference" in ended(auth.tctl("plan", "-f", "-", stdin=both), 0)
    assert "declared by" in auth.tctl("tokens", "del", VALUE).err


def test_a_trusted_cluster_without_its_secret(auth: AuthThread) -> None:
    """It is kept, and whoever applies it is told what it lacks."""
    document = (
        "apiVersion: teleport.internal/v1\nkind: TrustedCluster\nmetadata: {name: root}\n"
        "spec: {proxy: {tunnelAddr: 'main:3024'}, caSecretRef: {name: ca}}\n"
    )
    outcome = auth.tctl("apply", "-f", "-", stdin=document)
    ended(outcome, 0)
    assert "warning: TrustedCluster 'root' cannot be trusted without its Secret ca, which was not given" in outcome.err


# --- bad input ---------------------------------------------------------------------------------------------------


def test_one_mistake_stops_all(auth: AuthThread, tmp_path: Path) -> None:
    """Every mistake of every document is told at once with its file and line, and nothing is written."""
    (tmp_path / "a.yaml").write_text(joined(named(ROLE, "good"), named(ROLE, "bad").replace("allow", "alow")))
    (tmp_path / "b.yaml").write_text("a: [\n")
    (tmp_path / "c.yaml").write_text(named(ROLE, "good").replace("{name: good}", "{name: good, namespace: x}"))
    (tmp_path / "d.yaml").write_text(named(USER, "joe").replace("teleport.internal", "teleport.internl"))
    (tmp_path / "e.yaml").write_text(named(SECRET, "x").replace("stringData", "data").replace("VALUE", "not-base64!"))
    for command in ("plan", "apply"):
        outcome = auth.tctl(command, "-f", str(tmp_path))
        assert ended(outcome, 1) == ""
        assert "a.yaml:11: Role bad: spec.alow: is not a field here; did you mean allow?" in outcome.err
        assert "b.yaml:" in outcome.err
        assert f"c.yaml:2: Role good: is declared before, at {tmp_path}/a.yaml:2, in another namespace" in outcome.err
        assert "d.yaml:2: User joe: apiVersion: expected teleport.internal/v1" in outcome.err
        assert "e.yaml:5: Secret x-secret: data.token: is not base64" in outcome.err
        assert "not-base64!" not in outcome.err
        assert "Nothing was written" in outcome.err
    assert stored(auth) == {}


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["-f", "{tmp}/none.yaml"], "", "none.yaml cannot be read: No such file"),
        (["-f", "{tmp}/empty"], "", "holds no file named *.yaml"),
        (["-f", "{tmp}/nested"], "", "without --recursive (-R)"),
        (["-f", "-"], "", "stdin: holds no resource"),
        (["-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "stdin: holds no resource"),
        (["-f", "-"], named(ROLE, "user:joe"), "the cluster makes user: roles itself"),
        (["-f", "-"], named(ROLE, "'\x1b[2J'"), "U+001B"),
        (["-f", "-", "--secrets", "{tmp}/none"], named(ROLE, "dev"), "there is no folder"),
        (["-f", "-"], joined(named(TOKEN, "x"), named(SECRET, "x").replace("token:", "tokn:")), "has no key token"),
        (["-f", "-"], joined(named(TOKEN, "x"), named(SECRET, "x").replace("VALUE", "short")), "a token needs 16"),
        (["-f", "-"], named(TOKEN, "x").replace("5m", "31h"), "expected 1m to 30h"),
        (["-f", "{tmp}/token.yaml"], "", "x-secret.yaml: holds no Secret x-secret"),
        (["-f", "-"], named(TOKEN, "x").replace("{name: x}", "{name: x, issued: {uses: 1}}"), "issued"),
    ],
)
def test_what_cannot_be_applied(
    auth: AuthThread, tmp_path: Path, arguments: list[str], stdin: str, message: str
) -> None:
    """What is wrong is named, and what to do; exit code 1, and nothing is written."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "nested" / "within").mkdir(parents=True)
    (tmp_path / "nested" / "within" / "a.yaml").write_text(named(ROLE, "a"))
    (tmp_path / "token.yaml").write_text(named(TOKEN, "x"))
    (tmp_path / "x-secret.yaml").write_text(named(SECRET, "y"))
    for command in ("plan", "apply"):
        outcome = auth.tctl(command, *(word.format(tmp=tmp_path) for word in arguments), stdin=stdin)
        assert ended(outcome, 1) == ""
        assert message in outcome.err
    assert stored(auth) == {}


def test_a_cluster_that_a_file_configures(tmp_path: Path) -> None:
    """With dynamic_config: no teleport.yaml is the truth: documents are not taken, and it says how they would be."""
    with auth_thread(tmp_path, dynamic_config=False) as auth:
        for command in ("plan", "apply"):
            outcome = auth.tctl(command, "-f", "-", stdin=BOTH)
            assert ended(outcome, 1) == ""
            assert "configured by teleport.yaml (dynamic_config: no)" in outcome.err
            assert "Set auth_service.dynamic_config: yes" in outcome.err
        assert stored(auth) == {}


def test_what_cannot_be_read_is_left_alone(auth: AuthThread) -> None:
    """A document of a newer version is neither overwritten nor pruned."""
    newer = b'{"apiVersion":"teleport.internal/v1","kind":"Role","metadata":{"name":"dev"},"spec":{"allow":7}}'
    auth.run(auth.backend.put("resources/Role/dev", newer))
    outcome = auth.tctl("apply", "-f", "-", "--prune", stdin=BOTH)
    ended(outcome, 1)
    assert "cannot be read" in outcome.err
    assert stored(auth) == {"resources/Role/dev": newer}


def test_what_somebody_deletes_meanwhile(auth: AuthThread) -> None:
    """A plan holds for the moment; apply looks again."""
    ended(auth.tctl("apply", "-f", "-", stdin=BOTH), 0)
    ended(auth.tctl("plan", "-f", "-", stdin=BOTH), 0)
    auth.run(Declared(auth.backend).remove("User", "joe", Origin.TCTL))
    assert ended(auth.tctl("apply", "-f", "-", stdin=BOTH), 0).startswith("User 'joe' has been created\n")


# --- credentials -------------------------------------------------------------------------------------------------


BOT = """
apiVersion: teleport.internal/v1
kind: User
metadata: {name: bot}
spec: {logins: [bot], credentialsSecretRef: {name: bot-login}}
"""
LOGIN = """
apiVersion: v1
kind: Secret
metadata: {name: bot-login}
stringData: {password: PASSWORD, otpSecret: SEED}
"""
SEED, OTHER_SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"
PASSWORD = "correct horse battery"


def bot(password: str = PASSWORD, seed: str = SEED) -> str:
    """Return a machine's user with its Secret."""
    return joined(BOT, LOGIN.replace("PASSWORD", json.dumps(password)).replace("SEED", json.dumps(seed)))


def log_in(auth: AuthThread, password: str, seed: str, ahead: int = 0) -> LoginReply:
    """Log in through a proxy, with the code of now or of so many half minutes ahead."""

    async def work(proxy: AuthClient) -> LoginReply:
        code = pyotp.TOTP(seed).at(CLOCK.now() + ahead * timedelta(seconds=30))
        typed = {"user": "bot", "password": password, "otp": code, "public_key": generate_key().public.line}
        return await proxy.call(methods.LOGIN, LoginRequest.model_validate({**typed, "address": "192.0.2.1"}))

    return auth.local(CallerKind.PROXY, str(auth.identity(CallerKind.PROXY).id), work)


@pytest.mark.parametrize("command", ["apply", "create"])
def test_a_machine_gets_the_credentials_of_its_secret(auth: AuthThread, command: str) -> None:
    """It logs in with them at once and needs no invite; nothing that was printed, logged or audited shows them."""
    outcome = auth.tctl(command, "-f", "-", stdin=bot())
    assert ended(outcome, 0) == "User 'bot' has been created\n"
    assert "invites it" not in outcome.err
    assert log_in(auth, PASSWORD, SEED).user == "bot"
    assert "No difference" in ended(auth.tctl("plan", "-f", "-", stdin=bot()), 0)
    held = json.dumps(auth.events()) + outcome.out + outcome.err + str(stored(auth))
    assert PASSWORD not in held
    assert SEED not in held


@pytest.mark.parametrize(("password", "seed"), [("another horse battery", SEED), (PASSWORD, OTHER_SEED)])
def test_a_changed_secret_changes_the_credentials(auth: AuthThread, password: str, seed: str) -> None:
    """The plan says so without saying what; the old ones end, and so does an invite."""
    ended(auth.tctl("apply", "-f", "-", stdin=bot()), 0)
    assert ended(auth.tctl("plan", "-f", "-", stdin=bot(password, seed)), 2) == (
        "~ User bot: has other credentials\n    ~ credentials: (secret) → (secret)\n\nPlan: 1 to update.\n"
    )
    ended(auth.tctl("apply", "-f", "-", stdin=bot(password, seed)), 0)
    with pytest.raises(AccessDenied, match="wrong user name"):
        log_in(auth, PASSWORD, SEED)
    assert log_in(auth, password, seed).user == "bot"
    ended(auth.tctl("users", "reset", "bot"), 0)
    with pytest.raises(AccessDenied, match="wrong user name"):
        log_in(auth, password, seed, 1)
    ended(auth.tctl("apply", "-f", "-", stdin=bot(password, seed)), 0)
    assert "Signup" not in auth.tctl("tokens", "ls").out
    assert [event["user"] for event in auth.events() if event["event"] == "user.credentials"] == ["bot"] * 3


def test_a_code_that_was_used_stays_used(auth: AuthThread) -> None:
    """Another password with the same seed does not let a code be used twice."""
    ended(auth.tctl("apply", "-f", "-", stdin=bot()), 0)
    log_in(auth, PASSWORD, SEED)
    ended(auth.tctl("apply", "-f", "-", stdin=bot("another horse battery")), 0)
    with pytest.raises(AccessDenied, match="wrong user name"):
        log_in(auth, "another horse battery", SEED)
    assert log_in(auth, "another horse battery", SEED, 1).user == "bot"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (BOT, "stdin:8: User bot: spec.credentialsSecretRef: there is no Secret bot-login"),
        (bot(password=""), "Secret bot-login: has no key password"),
        (bot(password="short"), "the Secret of user bot: the password has fewer than 8 characters"),
        (bot(seed=""), "this cluster asks for one-time passwords"),
        (bot(seed="not base32!"), "is not base32"),
        (bot(seed="JBSWY3DPEHPK3PXP"), "has fewer than 128 bits"),
    ],
)
def test_credentials_that_cannot_be(auth: AuthThread, document: str, message: str) -> None:
    """What is wrong is named without showing it; nobody is created, not even who stands before it."""
    for command in ("plan", "apply"):
        outcome = auth.tctl(command, "-f", "-", stdin=joined(named(ROLE, "dev"), document))
        assert ended(outcome, 1) == ""
        assert message in outcome.err
        assert "not base32!" not in outcome.err
    assert stored(auth) == {}
