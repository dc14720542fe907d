"""Write the chart's copies of the custom resource definitions: `python tools/chart_crds.py`, after a change in crds/.

Each becomes a template that is left out where the definitions are not this release's to install, and that stays when
the release goes. A test holds the copies to what this writes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "crds"
TARGET = ROOT / "charts" / "teleport" / "templates" / "crds"

_TEMPLATE = """\
{{{{- /* Written by tools/chart_crds.py from crds/{file}; change that one. */}}}}
{{{{- if include "teleport.installs" (dict "root" $ "name" "{name}") }}}}
{document}{{{{- end }}}}
"""
_METADATA = """\
metadata:
  name: {name}
  {{{{- include "teleport.crdMetadata" . | nindent 2 }}}}
"""


def template(file: str, text: str) -> str:
    """Return the chart's template of a definition in `file` with that YAML. Raises ValueError for another layout."""
    document = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    found = re.search(r"^metadata:\n  name: (\S+)\n(?=\S)", document, re.MULTILINE)
    if not found:
        raise ValueError(f"{file}: its metadata is not just a name")
    name = found[1]
    # Helm would read two braces as the beginning of an expression.
    document = document.replace("{{", '{{ "{{" }}')
    document = document.replace(found[0], _METADATA.format(name=name))
    return _TEMPLATE.format(file=file, name=name, document=document)


def main() -> int:
    """Write all of them, and say which."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for path in sorted(SOURCE.glob("*.yaml")):
        (TARGET / path.name).write_text(template(path.name, path.read_text()))
        print(f"charts/teleport/templates/crds/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
