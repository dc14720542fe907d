"""The whole mission on a real Kubernetes, from outside: what kubectl declares and helm installs, tsh and ssh find.

It runs on our own launcher (`tests.e2e.kubernetes`, as root), or on the cluster whose kubeconfig the variable
TELEPORT_E2E_KUBECONFIG names: kind, say, made with kind-config.yaml and with the image loaded. A cluster that was not
made for tests is refused (`place.check_ours`).

Most scenarios share one release, in a namespace of its own, and declare users, roles, tokens and nodes of their own.
"""
