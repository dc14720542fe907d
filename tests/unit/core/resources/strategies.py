"""Any resource that a person may declare."""

from __future__ import annotations

import string
from datetime import timedelta
from typing import TypeVar

from hypothesis import strategies as st

from runtime.core.resources import (
    Conditions,
    Metadata,
    Options,
    Origin,
    Resource,
    Role,
    RoleMetadata,
    RoleSpec,
    Rule,
    RuleResource,
    Token,
    TokenRole,
    TokenSpec,
    TrustedCluster,
    TrustedClusterSpec,
    User,
    UserSpec,
    Verb,
)
from runtime.core.resources.model import CASecretKeyRef, DeletionPolicy, Model, SecretRef, TokenSecretKeyRef
from runtime.core.resources.token import TokenMetadata
from runtime.core.resources.trusted_cluster import ProxyAddresses, RoleMapping, TrustMetadata
from runtime.core.resources.user import DriftPolicy, Invite, UserMetadata

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?(\.[a-z0-9]{1,4})?", fullmatch=True)
logins = st.from_regex(r"[a-z_][a-z0-9_.-]{0,31}", fullmatch=True)
label_keys = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,20}[A-Za-z0-9])?", fullmatch=True)
label_values = st.text(string.printable[:95], max_size=20)
ttls = st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(hours=30))
addresses = st.builds("{}:{}".format, names | st.just("[::1]"), st.integers(1, 65535))


Item = TypeVar("Item")
Built = TypeVar("Built", bound=Model)


def _build(model: type[Built], **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Built]:
    """Return the model built of these fields only; st.builds would guess the others from a signature of aliases."""
    return st.fixed_dictionaries(fields).map(lambda values: model(**values))


def _some(item: st.SearchStrategy[Item], least: int = 0) -> st.SearchStrategy[tuple[Item, ...]]:
    return st.lists(item, min_size=least, max_size=3, unique=True).map(tuple)


def _metadata(origins: st.SearchStrategy[Origin | None]) -> st.SearchStrategy[Metadata]:
    keys = st.from_regex(r"([a-z]{1,4}\.[a-z]{1,3}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
    labels = st.dictionaries(
        keys, st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,5}[a-z])?)?", fullmatch=True), max_size=2
    )
    notes = st.dictionaries(keys, label_values, max_size=2)
    return _build(Metadata, name=names, namespace=st.none() | names, labels=labels, annotations=notes, origin=origins)


def _specs() -> tuple[st.SearchStrategy[UserSpec], st.SearchStrategy[RoleSpec], st.SearchStrategy[TokenSpec]]:
    kept = st.sampled_from(DeletionPolicy)
    users = _build(
        UserSpec,
        logins=_some(logins, 1),
        roles=_some(names),
        invite=st.none() | _build(Invite, ttl=ttls),
        drift_policy=st.sampled_from(DriftPolicy),
        deletion_policy=kept,
    ) | _build(UserSpec, roles=_some(names, 1), credentials_secret_ref=_build(SecretRef, name=names))
    rules = _build(Rule, resources=_some(st.sampled_from(RuleResource), 1), verbs=_some(st.sampled_from(Verb), 1))
    selectors = st.dictionaries(label_keys, _some(label_values, 1), max_size=3) | st.just({"*": ("*",)})
    sides = _build(
        Conditions, logins=_some(logins), node_labels=selectors, rules=st.lists(rules, max_size=2).map(tuple)
    )
    options = _build(
        Options,
        max_session_ttl=ttls,
        forward_agent=st.booleans(),
        port_forwarding=st.booleans(),
        file_copy=st.booleans(),
        max_sessions=st.integers(1, 1000),
        idle_timeout=st.none() | ttls,
    )
    tokens = _build(
        TokenSpec,
        deletion_policy=kept,
        roles=_some(st.sampled_from(TokenRole), 1),
        ttl=ttls,
        max_uses=st.none() | st.integers(1, 1000),
        renew=st.booleans(),
        labels=st.dictionaries(label_keys, label_values, max_size=3),
        secret_ref=st.none() | _build(TokenSecretKeyRef, name=names, key=st.just("token") | names),
    )
    return users, _build(RoleSpec, deletion_policy=kept, allow=sides, deny=sides, options=options), tokens


def _trusted_clusters() -> st.SearchStrategy[TrustedClusterSpec]:
    proxies = _build(ProxyAddresses, web_addr=addresses, tunnel_addr=addresses)
    mappings = st.lists(
        _build(RoleMapping, remote=names, local=_some(names, 1)), max_size=3, unique_by=lambda each: each.remote
    ).map(tuple)
    return _build(
        TrustedClusterSpec,
        enabled=st.booleans(),
        proxy=proxies,
        token_secret_ref=_build(TokenSecretKeyRef, name=names),
        role_map=mappings,
        allow_logins=_some(logins),
        deletion_policy=st.sampled_from(DeletionPolicy),
    ) | _build(TrustedClusterSpec, proxy=proxies, ca_secret_ref=_build(CASecretKeyRef, name=names))


def declared(origins: st.SearchStrategy[Origin | None]) -> st.SearchStrategy[Resource]:
    """Return resources that people may declare, of these origins."""
    users, roles, tokens = _specs()
    metadata = _metadata(origins)
    role_metadata = metadata.map(lambda each: RoleMetadata(**each.model_dump(by_alias=False)))
    token_metadata = metadata.map(lambda each: TokenMetadata(**each.model_dump(by_alias=False)))
    user_metadata = metadata.map(lambda each: UserMetadata(**each.model_dump(by_alias=False)))
    trust_metadata = metadata.map(lambda each: TrustMetadata(**each.model_dump(by_alias=False)))
    return st.one_of(
        _build(User, metadata=user_metadata, spec=users),
        _build(Role, metadata=role_metadata, spec=roles),
        _build(Token, metadata=token_metadata, spec=tokens),
        _build(TrustedCluster, metadata=trust_metadata, spec=_trusted_clusters()),
    )
