"""Documents that are right and documents that are wrong, with who must see it: read by the models and by the CRDs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml


class Seen(Enum):
    """Where a CRD refuses a document, or only an API server can tell."""

    SCHEMA = "its schema"
    CEL = "its validation rules, which only an API server runs"
    SERVER = "the API server itself"


@dataclass(frozen=True)
class Row:
    """One document; `path` is None for a valid one."""

    title: str
    document: dict[str, Any]  # a document as YAML gives it
    path: str | None = None
    seen: Seen | None = None


def _row(
    kind: str,
    title: str,
    spec: str,
    path: str | None = None,
    seen: Seen = Seen.SCHEMA,
    name: str = "x",
    **metadata: object,
) -> Row:
    document = {
        "apiVersion": "teleport.internal/v1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": yaml.safe_load(spec),
    }
    return Row(f"{kind}: {title}", document, path, seen if path or seen is Seen.SERVER else None)


def _many(item: str, count: int) -> str:
    return "[" + ", ".join(item.format(number) for number in range(count)) + "]"


_TUNNEL = "proxy: {tunnelAddr: 'a:1'}, caSecretRef: {name: s}"

ROWS = [
    _row("User", "one login", "logins: [joe]"),
    _row("User", "one role", "roles: [dev]"),
    _row("User", "a role that is two labels", "roles: [dev.team-1]"),
    _row(
        "User",
        "everything",
        "{logins: [a, _b.c-d], roles: [r], invite: {ttl: 90m}, driftPolicy: Report, deletionPolicy: Keep}",
    ),
    _row("User", "a name with a dot", "logins: [a]", name="joe.smith-2"),
    _row("User", "the longest name", "logins: [a]", name="a" * 128),
    _row("User", "the longest login", f"logins: [{'a' * 32}]"),
    _row("User", "64 logins", f"logins: {_many('a{}', 64)}"),
    _row("User", "the shortest invite", "{logins: [a], invite: {ttl: 60s}}"),
    _row("User", "the longest invite", "{logins: [a], invite: {ttl: 1800m}}"),
    _row("User", "an invite with its default", "{logins: [a], invite: {}}"),
    _row("User", "credentials from a Secret", "{logins: [a], credentialsSecretRef: {name: joe-login}}"),
    _row("User", "invite and credentials", "{logins: [a], invite: {}, credentialsSecretRef: {name: s}}"),
    _row("User", "no login and no role", "{}", "spec", Seen.CEL),
    _row("User", "empty lists", "{logins: [], roles: []}", "spec", Seen.CEL),
    _row("User", "an upper-case login", "logins: [Root]", "spec.logins[0]"),
    _row("User", "a login with a comma", "logins: [ok, 'a,root']", "spec.logins[1]"),
    _row("User", "a login with a blank", "logins: ['a b']", "spec.logins[0]"),
    _row("User", "a login with a slash", "logins: ['a/b']", "spec.logins[0]"),
    _row("User", "a login that ends in a newline", 'logins: ["root\\n"]', "spec.logins[0]"),
    _row("User", "a login with NUL", 'logins: ["root\\0"]', "spec.logins[0]"),
    _row("User", "a login with a Cyrillic o", 'logins: ["r\\u043eot"]', "spec.logins[0]"),
    _row("User", "an empty login", "logins: ['']", "spec.logins[0]"),
    _row("User", "a login of 33", f"logins: [{'a' * 33}]", "spec.logins[0]"),
    _row("User", "a login that is a number", "logins: [7]", "spec.logins[0]"),
    _row("User", "logins that are no list", "logins: joe", "spec.logins"),
    _row("User", "a login twice", "logins: [a, b, a]", "spec.logins"),
    _row("User", "65 logins", f"logins: {_many('a{}', 65)}", "spec.logins"),
    _row("User", "a generated role", "roles: ['user:ann']", "spec.roles[0]"),
    _row("User", "an unknown drift policy", "{logins: [a], driftPolicy: correct}", "spec.driftPolicy"),
    _row("User", "an unknown deletion policy", "{logins: [a], deletionPolicy: Orphan}", "spec.deletionPolicy"),
    _row("User", "an invite of 59 s", "{logins: [a], invite: {ttl: 59s}}", "spec.invite.ttl", Seen.CEL),
    _row("User", "an invite beyond 30 h", "{logins: [a], invite: {ttl: 30h1s}}", "spec.invite.ttl", Seen.CEL),
    _row("User", "an invite without a unit", "{logins: [a], invite: {ttl: '60'}}", "spec.invite.ttl"),
    _row("User", "an invite that is a number", "{logins: [a], invite: {ttl: 60}}", "spec.invite.ttl"),
    _row("User", "an unknown field", "{logins: [a], login: b}", "spec.login"),
    _row("User", "a field in snake case", "{logins: [a], drift_policy: Report}", "spec.drift_policy"),
    _row(
        "User", "a Secret without a name", "{logins: [a], credentialsSecretRef: {}}", "spec.credentialsSecretRef.name"
    ),
    _row("User", "an upper-case name", "logins: [a]", "metadata.name", name="Joe"),
    _row("User", "a name with an underscore", "logins: [a]", "metadata.name", name="joe_smith"),
    _row("User", "a name with a colon", "logins: [a]", "metadata.name", name="user:joe"),
    _row("User", "a name of 129", "logins: [a]", "metadata.name", name="a" * 129),
    _row("User", "a name that ends in a dash", "logins: [a]", "metadata.name", name="joe-"),
    _row("User", "an empty name", "logins: [a]", "metadata.name", name=""),
    _row("User", "lists that are null", "{logins: [a], roles: null, invite: {ttl: null}}", seen=Seen.SERVER),
    _row("User", "a null for a Secret", "{logins: [a], credentialsSecretRef: null}", seen=Seen.SERVER),
    _row("User", "an entry that is null", "{logins: [a, null]}", "spec.logins[1]"),
    _row("User", "no spec", "null", "spec"),
    _row("User", "a spec that is a list", "[]", "spec"),
    _row("User", "an invite in fractions", "{logins: [a], invite: {ttl: .5h}}"),
    _row("User", "an invite in microseconds", "{logins: [a], invite: {ttl: 60000000µs}}"),
    _row("User", "an invite in nanoseconds", "{logins: [a], invite: {ttl: 1m1ns}}", "spec.invite.ttl"),
    _row("User", "an invite finer than that", "{logins: [a], invite: {ttl: 1m0.0000001s}}", "spec.invite.ttl"),
    _row("User", "an invite beyond 64 bits", "{logins: [a], invite: {ttl: 100000000h}}", "spec.invite.ttl", Seen.CEL),
    _row("User", "an invite with a sign", "{logins: [a], invite: {ttl: +1h}}", "spec.invite.ttl"),
    _row("User", "an invite in days", "{logins: [a], invite: {ttl: 1d}}", "spec.invite.ttl"),
    _row("User", "a name with two dots", "logins: [a]", "metadata.name", name="a..b"),
    _row("User", "seventy labels", "logins: [a]", labels={f"l{place}": "x" for place in range(70)}),
    _row("User", "labels and annotations", "logins: [a]", labels={"a.b/c": ""}, annotations={"A/b": "x y\n"}),
    _row("User", "a label with a blank", "logins: [a]", 'metadata.labels["a b"]', Seen.SERVER, labels={"a b": "c"}),
    _row("User", "a label's value with a blank", "logins: [a]", "metadata.labels.a", Seen.SERVER, labels={"a": "x y"}),
    _row(
        "User",
        "an annotation with an underscore in its prefix",
        "logins: [a]",
        'metadata.annotations["A_b/c"]',
        Seen.SERVER,
        annotations={"A_b/c": "x"},
    ),
    _row("User", "an origin", "logins: [a]", "metadata.origin", Seen.SERVER, origin="tctl"),
    _row("Role", "to be kept", "deletionPolicy: Keep"),
    _row("Role", "an unknown deletion policy", "deletionPolicy: Orphan", "spec.deletionPolicy"),
    _row(
        "Role", "a deletion policy among what is allowed", "allow: {deletionPolicy: Keep}", "spec.allow.deletionPolicy"
    ),
    _row("Token", "to be kept", "{roles: [node], deletionPolicy: Keep}"),
    _row("Token", "a deletion policy in lower case", "{roles: [node], deletionPolicy: keep}", "spec.deletionPolicy"),
    _row(
        "TrustedCluster",
        "to be kept",
        "{proxy: {tunnelAddr: 'p:3024'}, caSecretRef: {name: c}, deletionPolicy: Keep}",
    ),
    _row(
        "TrustedCluster",
        "a deletion policy that is a flag",
        "{proxy: {tunnelAddr: 'p:3024'}, caSecretRef: {name: c}, deletionPolicy: true}",
        "spec.deletionPolicy",
    ),
    _row("Role", "nothing allowed", "{}"),
    _row("Role", "parts that are null", "{allow: null, deny: {nodeLabels: null}, options: null}", seen=Seen.SERVER),
    _row("Role", "every node and one more label", "allow: {nodeLabels: {'*': ['*'], env: [a]}}"),
    _row("Role", "any value twice", "allow: {nodeLabels: {'*': ['*', '*']}}", 'spec.allow.nodeLabels["*"]'),
    _row(
        "Role",
        "a label of 64",
        f"deny: {{nodeLabels: {{{'a' * 64}: [x]}}}}",
        f"spec.deny.nodeLabels.{'a' * 64}",
        Seen.CEL,
    ),
    _row(
        "Role",
        "65 labels",
        f"allow: {{nodeLabels: {_many('k{}: [x]', 65).replace('[k', '{k', 1)[:-1]}}}}}",
        "spec.allow.nodeLabels",
    ),
    _row("Role", "sessions with a point", "options: {maxSessions: 3.0}"),
    _row(
        "Role",
        "everything",
        """
        allow: {logins: [dev], nodeLabels: {env: [a, b], team: ["*"]}, rules: [{resources: [session], verbs: [join]}]}
        deny: {logins: [root], nodeLabels: {pci: ["true"]}, rules: [{resources: ["*"], verbs: ["*"]}]}
        options: {maxSessionTTL: 8h, forwardAgent: true, portForwarding: true, fileCopy: false, maxSessions: 1,
                  idleTimeout: 1s}
        """,
    ),
    _row("Role", "every node", "allow: {nodeLabels: {'*': ['*']}}"),
    _row("Role", "an empty label value", "allow: {nodeLabels: {env: ['']}}"),
    _row("Role", "a label of 63", f"allow: {{nodeLabels: {{{'a' * 63}: [x]}}}}"),
    _row("Role", "a generated name", "{}", "metadata.name", name="user:joe"),
    _row("Role", "a trusted cluster's name", "{}", "metadata.name", name="ca:main"),
    _row("Role", "a label value that is no list", "allow: {nodeLabels: {env: staging}}", "spec.allow.nodeLabels.env"),
    _row("Role", "a label value that is a boolean", "deny: {nodeLabels: {pci: [true]}}", "spec.deny.nodeLabels.pci[0]"),
    _row("Role", "no value for a label", "allow: {nodeLabels: {env: []}}", "spec.allow.nodeLabels.env"),
    _row("Role", "a value twice", "allow: {nodeLabels: {env: [a, a]}}", "spec.allow.nodeLabels.env"),
    _row("Role", "a value beyond ASCII", 'allow: {nodeLabels: {env: ["pr\\u043ed"]}}', "spec.allow.nodeLabels.env[0]"),
    _row("Role", "a label with a blank", "allow: {nodeLabels: {'a b': [x]}}", 'spec.allow.nodeLabels["a b"]', Seen.CEL),
    _row("Role", "any label with a value", "allow: {nodeLabels: {'*': [x]}}", "spec.allow.nodeLabels", Seen.CEL),
    _row(
        "Role",
        "an unknown verb",
        "allow: {rules: [{resources: [node], verbs: [write]}]}",
        "spec.allow.rules[0].verbs[0]",
    ),
    _row(
        "Role",
        "an unknown resource",
        "allow: {rules: [{resources: [pod], verbs: [list]}]}",
        "spec.allow.rules[0].resources[0]",
    ),
    _row("Role", "a rule without verbs", "allow: {rules: [{resources: [node]}]}", "spec.allow.rules[0].verbs"),
    _row(
        "Role", "a rule with no verb", "allow: {rules: [{resources: [node], verbs: []}]}", "spec.allow.rules[0].verbs"
    ),
    _row("Role", "a TTL of 59 s", "options: {maxSessionTTL: 59s}", "spec.options.maxSessionTTL", Seen.CEL),
    _row("Role", "a TTL of 31 h", "options: {maxSessionTTL: 31h}", "spec.options.maxSessionTTL", Seen.CEL),
    _row("Role", "a negative TTL", "options: {maxSessionTTL: -1h}", "spec.options.maxSessionTTL"),
    _row("Role", "a switch that is text", "options: {fileCopy: 'yes'}", "spec.options.fileCopy"),
    _row("Role", "no session at all", "options: {maxSessions: 0}", "spec.options.maxSessions"),
    _row("Role", "too many sessions", "options: {maxSessions: 1001}", "spec.options.maxSessions"),
    _row("Role", "half a session", "options: {maxSessions: 1.5}", "spec.options.maxSessions"),
    _row("Role", "sessions as text", "options: {maxSessions: '3'}", "spec.options.maxSessions"),
    _row("Role", "an idle timeout of zero", "options: {idleTimeout: 0s}", "spec.options.idleTimeout", Seen.CEL),
    _row("Role", "an unknown option", "options: {maxSession: 3}", "spec.options.maxSession"),
    _row("Token", "one role", "roles: [node]"),
    _row("Token", "all roles", "roles: [node, proxy, auth, trusted_cluster]"),
    _row(
        "Token", "everything", "{roles: [node], ttl: 5m, maxUses: 1, labels: {env: prod}, secretRef: {name: s, key: k}}"
    ),
    _row("Token", "renewed", "{roles: [node], renew: true}"),
    _row("Token", "renewed by a word", "{roles: [node], renew: always}", "spec.renew"),
    _row("Token", "uses with a point", "{roles: [node], maxUses: 2.0}"),
    _row("Token", "an empty label value", "{roles: [node], labels: {a: ''}}"),
    _row("Token", "an empty label", "{roles: [node], labels: {'': a}}", 'spec.labels[""]', Seen.CEL),
    _row("Token", "a Secret without a name", "{roles: [node], secretRef: {key: a}}", "spec.secretRef.name"),
    _row("Token", "uses that are true", "{roles: [node], maxUses: true}", "spec.maxUses"),
    _row("Token", "no role", "roles: []", "spec.roles"),
    _row("Token", "roles left out", "{ttl: 5m}", "spec.roles"),
    _row("Token", "a sign-up token", "roles: [signup]", "spec.roles[0]"),
    _row("Token", "a role twice", "roles: [node, node]", "spec.roles"),
    _row("Token", "no use", "{roles: [node], maxUses: 0}", "spec.maxUses"),
    _row("Token", "a day and a half", "{roles: [node], ttl: 36h}", "spec.ttl", Seen.CEL),
    _row("Token", "a label that is a list", "{roles: [node], labels: {env: [a]}}", "spec.labels.env"),
    _row("Token", "a label *", "{roles: [node], labels: {'*': a}}", 'spec.labels["*"]', Seen.CEL),
    _row("Token", "its value", "{roles: [node], token: abc}", "spec.token"),
    _row(
        "Token", "a Secret's key with a slash", "{roles: [node], secretRef: {name: s, key: a/b}}", "spec.secretRef.key"
    ),
    _row("TrustedCluster", "pinned", f"{{{_TUNNEL}}}"),
    _row("TrustedCluster", "pinned, IPv6", "{proxy: {tunnelAddr: '[::1]:65535'}, caSecretRef: {name: s}}"),
    _row(
        "TrustedCluster",
        "by token",
        "{proxy: {webAddr: 'a.b:3080', tunnelAddr: 'a.b:3024'}, tokenSecretRef: {name: s}}",
    ),
    _row(
        "TrustedCluster",
        "everything",
        f"{{{_TUNNEL}, enabled: false, roleMap: [{{remote: a, local: [b, c]}}], allowLogins: [john]}}",
        name="main.example",
    ),
    _row(
        "TrustedCluster",
        "IPv6 without brackets",
        "{proxy: {tunnelAddr: '::1:80'}, caSecretRef: {name: s}}",
        "spec.proxy.tunnelAddr",
    ),
    _row("TrustedCluster", "any login", f"{{{_TUNNEL}, allowLogins: ['*']}}", "spec.allowLogins[0]"),
    _row("TrustedCluster", "half a mapping", f"{{{_TUNNEL}, roleMap: [{{remote: a}}]}}", "spec.roleMap[0].local"),
    _row("TrustedCluster", "no proof", "{proxy: {tunnelAddr: 'a:1'}}", "spec", Seen.CEL),
    _row("TrustedCluster", "two proofs", f"{{{_TUNNEL}, tokenSecretRef: {{name: t}}}}", "spec", Seen.CEL),
    _row(
        "TrustedCluster",
        "a token without webAddr",
        "{proxy: {tunnelAddr: 'a:1'}, tokenSecretRef: {name: t}}",
        "spec",
        Seen.CEL,
    ),
    _row("TrustedCluster", "no proxy", "{caSecretRef: {name: s}}", "spec.proxy"),
    _row("TrustedCluster", "no tunnel", "{proxy: {webAddr: 'a:1'}, caSecretRef: {name: s}}", "spec.proxy.tunnelAddr"),
    _row("TrustedCluster", "no port", "{proxy: {tunnelAddr: a}, caSecretRef: {name: s}}", "spec.proxy.tunnelAddr"),
    _row(
        "TrustedCluster",
        "port 65536",
        "{proxy: {tunnelAddr: 'a:65536'}, caSecretRef: {name: s}}",
        "spec.proxy.tunnelAddr",
    ),
    _row("TrustedCluster", "port 0", "{proxy: {tunnelAddr: 'a:0'}, caSecretRef: {name: s}}", "spec.proxy.tunnelAddr"),
    _row(
        "TrustedCluster",
        "a URL",
        "{proxy: {tunnelAddr: 'https://a:1'}, caSecretRef: {name: s}}",
        "spec.proxy.tunnelAddr",
    ),
    _row(
        "TrustedCluster",
        "a role mapped twice",
        f"{{{_TUNNEL}, roleMap: [{{remote: a, local: [b]}}, {{remote: a, local: [c]}}]}}",
        "spec.roleMap",
    ),
    _row(
        "TrustedCluster",
        "a role mapped to nothing",
        f"{{{_TUNNEL}, roleMap: [{{remote: a, local: []}}]}}",
        "spec.roleMap[0].local",
    ),
    _row(
        "TrustedCluster",
        "a mapped generated role",
        f"{{{_TUNNEL}, roleMap: [{{remote: a, local: ['ca:x']}}]}}",
        "spec.roleMap[0].local[0]",
    ),
    _row("TrustedCluster", "enabled as text", f"{{{_TUNNEL}, enabled: 'true'}}", "spec.enabled"),
]
