"""The Kubernetes operator: custom resources of group teleport.internal, reconciled into the cluster's backend.

handlers/ is kopf's edge and holds no decisions: unpack, call, patch. What is decided is in plain functions beside it.
"""
