"""What the cluster is made of, as values without I/O.

Declared by people, one document each for kubectl, tctl and the backend: User, Role, Token, TrustedCluster. Told by the
cluster itself: Authority. What decides anything about them lives elsewhere.
"""

from runtime.core.resources.authority import Authority, AuthorityType, Generation
from runtime.core.resources.document import DECLARED, KEPT_BY_THE_CLUSTER, dump, dump_all, load_documents, read_object
from runtime.core.resources.model import (
    API_VERSION,
    GROUP,
    VERSION,
    DeletionPolicy,
    Metadata,
    Origin,
    Resource,
    RoleMetadata,
)
from runtime.core.resources.role import Conditions, Options, Role, RoleSpec, Rule, RuleResource, Verb
from runtime.core.resources.stored import decode, encode, key_of
from runtime.core.resources.token import Token, TokenIssue, TokenRole, TokenSpec
from runtime.core.resources.trusted_cluster import TrustedCluster, TrustedClusterSpec
from runtime.core.resources.user import DriftPolicy, Invite, SignupInvite, User, UserMetadata, UserSpec
from runtime.core.resources.user_credentials import SealedCredentials

__all__ = [
    "API_VERSION",
    "DECLARED",
    "GROUP",
    "KEPT_BY_THE_CLUSTER",
    "VERSION",
    "Authority",
    "AuthorityType",
    "Conditions",
    "DeletionPolicy",
    "DriftPolicy",
    "Generation",
    "Invite",
    "Metadata",
    "Options",
    "Origin",
    "Resource",
    "Role",
    "RoleMetadata",
    "RoleSpec",
    "Rule",
    "RuleResource",
    "SealedCredentials",
    "SignupInvite",
    "Token",
    "TokenIssue",
    "TokenRole",
    "TokenSpec",
    "TrustedCluster",
    "TrustedClusterSpec",
    "User",
    "UserMetadata",
    "UserSpec",
    "Verb",
    "decode",
    "dump",
    "dump_all",
    "encode",
    "key_of",
    "load_documents",
    "read_object",
]
