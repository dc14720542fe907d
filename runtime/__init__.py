"""All of Teleport that runs without Kubernetes: one folder for each concern, arrows down to `core` (docs/adr/0001)."""
