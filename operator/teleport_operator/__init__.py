"""The Kubernetes operator: custom resources of group teleport.internal, reconciled into the cluster's backend.

handlers/ is kopf's edge and holds no decisions: unpack, call, patch. From there, or from following/ where something
else than its document has changed, an object comes to `judging`: secrets/ gets what the document refers to, verdicts/
decides, and says what was found. kubernetes/ knows the API server and nothing of ours.
"""
