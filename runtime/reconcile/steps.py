"""The words of a plan: who acts, what is there, what is asked for, and what is to be done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from runtime.core.resources import DeletionPolicy, Origin, Resource, SealedCredentials, SignupInvite
from runtime.core.resources.trusted_cluster import TrustMeans
from runtime.reconcile.differences import Change


class Action(StrEnum):
    """What is done about one resource."""

    CREATE = "create"
    UPDATE = "update"
    ADOPT = "adopt"
    """Take it over from another origin, as its document asks."""
    DELETE = "delete"
    REFUSE = "refuse"
    """Leave what is there, against the document: somebody has to decide."""
    UNCHANGED = "unchanged"


class Reason(StrEnum):
    """Why, in one word for machines; fit for a condition of Kubernetes."""

    NEW = "New"
    CHANGED = "Changed"
    ADOPTED = "Adopted"
    NOT_DECLARED = "NotDeclared"
    AS_DECLARED = "AsDeclared"
    GONE = "Gone"
    KEPT = "Kept"
    OTHER_OWNER = "OwnedByAnother"
    UNREADABLE = "Unreadable"

    ROLE_NOT_FOUND = "RoleNotFound"
    ROLE_IN_USE = "RoleInUse"
    EXPIRED = "Expired"
    USED_UP = "UsedUp"
    CREDENTIALS_PENDING = "CredentialsPending"
    CREDENTIALS_REFUSED = "CredentialsRefused"
    NO_SECRET = "SecretNotFound"  # noqa: S105 - a word, no password


@dataclass(frozen=True, slots=True)
class Owner:
    """Who acts. To Kubernetes a resource belongs to one namespace; elsewhere a namespace says nothing."""

    origin: Origin
    namespace: str | None = None

    def owns(self, actual: Resource) -> bool:
        """Return whether the resource was declared by this owner."""
        metadata = actual.metadata
        return metadata.origin is self.origin and (
            self.origin is not Origin.KUBERNETES or metadata.namespace == self.namespace
        )

    def __str__(self) -> str:
        """Return `tctl`, or `kubernetes in namespace NAME`."""
        return _named(self.origin, self.namespace if self.origin is Origin.KUBERNETES else None)


def owner_of(actual: Resource) -> str:
    """Return who declared a resource, for people."""
    metadata = actual.metadata
    return _named(metadata.origin, metadata.namespace if metadata.origin is Origin.KUBERNETES else None)


def _named(origin: Origin | None, namespace: str | None) -> str:
    return f"{origin or 'nobody known'}{f' in namespace {namespace}' if namespace else ''}"


@dataclass(frozen=True, slots=True)
class Actual:
    """One resource that is there, at its revision; `resource` is None, and `problem` says why, if it cannot be read."""

    kind: str
    name: str
    revision: int
    resource: Resource | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """The password of a user and the seed of its one-time passwords, from its Secret; `held`: it has them already."""

    password: str = field(repr=False)
    otp_secret: str = field(default="", repr=False)
    held: bool = False


@dataclass(frozen=True, slots=True)
class Desired:
    """One document, and what its Secret holds."""

    resource: Resource
    value: str | None = field(default=None, repr=False)
    """Of a token, or of a trusted cluster for who can ask auth; None for the one it has, or a new one."""
    login: Login | None = None
    """Of a user; None for who is invited."""
    invite: SignupInvite | None = None
    """Of a user; None for the one it has, or none."""
    person: str = ""
    """Of a user who is new: its id. Empty where who writes the document gives it one."""
    credentials: SealedCredentials | None = None
    """Of a user with `credentialsSecretRef`, from who cannot ask auth; None for those it has, or none."""
    means: TrustMeans | None = None
    """Of a trusted cluster, from who cannot ask auth: with its token sealed. None for those it has, or none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What only the whole picture shows: the document is right, but what it says will not do what it seems to."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about one resource, at most one compare-and-swap, and why."""

    action: Action
    kind: str
    name: str
    reason: Reason
    message: str
    hint: str = ""
    """What to do next, where somebody has to."""
    resource: Resource | None = None
    """What is to be there afterwards; None for a deletion and where there is no document."""
    revision: int = 0
    """Of what is there now; 0 for nothing."""
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()
    desired: Desired | None = None
    """The document, from which the step is decided anew when somebody else was quicker."""
    policy: DeletionPolicy | None = None
    """Of a deletion: what the document said last, where that is known."""

    @property
    def writes(self) -> bool:
        """Return whether it changes anything."""
        return self.action not in (Action.REFUSE, Action.UNCHANGED)
