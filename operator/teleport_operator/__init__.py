"""The Kubernetes edge: custom resources in, the same reconciliation that tctl uses, conditions out."""
