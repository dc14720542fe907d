"""The embedded backend: one SQLite file that several processes of a machine share (docs/adr/0002)."""

from runtime.backend.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
