"""The auth service: the only runtime that opens the backend and the only one that signs."""
