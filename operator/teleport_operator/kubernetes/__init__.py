"""What is Kubernetes' own: the API server and its errors, leader election, watches that live, and kopf's memory.

Nothing here knows what a User or a Token means.
"""
