"""Ports, lifetimes and limits that hold where nobody says otherwise; each names the manual's section it comes from."""

from __future__ import annotations

from datetime import timedelta

# Manual, "Ports".
NODE_SSH_PORT = 3022
PROXY_SSH_PORT = 3023
PROXY_TUNNEL_PORT = 3024
AUTH_PORT = 3025
PROXY_WEB_PORT = 3080
OPENSSH_PORT = 22
"""Of `openssh_servers` that name no port: sshd's own."""
DIAG_PORT = 3000
"""Of `--diag-addr` where it names no port; ours, the manual has no such address."""

# Manual, "Configuration File".
LISTEN_HOST = "0.0.0.0"  # noqa: S104 — the manual: "By default it listens on all."
CONFIG_FILE = "/etc/teleport.yaml"
DATA_DIR = "/var/lib/teleport"
DRAIN = timedelta(seconds=20)
"""How long one role may take to stop."""
MAX_CONNECTIONS = 1000
"""Connections that a service holds open at once."""
MAX_USERS = 250
"""Different users that a service serves at once."""

# Manual, "Adding and Deleting Users": 23 hours, "a maximum of 30 hours and a minimum of 1 minute".
CERTIFICATE_TTL = timedelta(hours=23)
MIN_CERTIFICATE_TTL = timedelta(minutes=1)
MAX_CERTIFICATE_TTL = timedelta(hours=30)

SIGNUP_TTL = timedelta(hours=1)
"""How long the URL of `tctl users add` is good for (manual, "Adding and Deleting Users")."""

# Manual, "Using etcd".
ETCD_PREFIX = "teleport"

JOIN_TOKEN_TTL = timedelta(minutes=30)
"""How long a join token is good for where nothing says otherwise; it works many times until then (manual,
"Short-lived Tokens")."""

EVENT_RETENTION = timedelta(days=90)
"""How long the shared storage keeps audit events; the local files stay until somebody removes them."""
