"""The one place that names the version; the package's metadata is read from here."""

__version__ = "0.1.0"
