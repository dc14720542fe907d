"""`python -m teleport_operator`."""

from __future__ import annotations

from teleport_operator.main import main

main()
