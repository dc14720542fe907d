"""Desired documents and actual ones in, a plan out; and the one way in which a plan is carried out.

The operator and tctl share it: each brings its edge to the documents (`Documents`), and the origin that it acts for.
Nothing here does I/O or reads a clock. What is wrong with a document by itself is found before, by
`runtime.core.resources`.
"""

from runtime.reconcile.applying import ATTEMPTS, Documents, Done, apply, carry_out, observe, reconcile, remove
from runtime.reconcile.decisions import decide, decide_removal
from runtime.reconcile.differences import SECRET, Change, differences
from runtime.reconcile.planning import Plan, missing_roles, named_roles, plan
from runtime.reconcile.steps import Action, Actual, Desired, Finding, Login, Owner, Reason, Step

__all__ = [
    "ATTEMPTS",
    "SECRET",
    "Action",
    "Actual",
    "Change",
    "Desired",
    "Documents",
    "Done",
    "Finding",
    "Login",
    "Owner",
    "Plan",
    "Reason",
    "Step",
    "apply",
    "carry_out",
    "decide",
    "decide_removal",
    "differences",
    "missing_roles",
    "named_roles",
    "observe",
    "plan",
    "reconcile",
    "remove",
]
