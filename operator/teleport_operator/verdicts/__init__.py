"""What a document means for the backend, and what is then to be said of it: the conditions of its status.

Nothing here speaks with the API server.
"""
