"""Files, folders and stdin, as kubectl takes them, into documents with the values of their Secrets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.core.errors import InvalidInput, InvalidResource
from runtime.core.resources import Token, TrustedCluster, User
from runtime.core.resources.manifests import Manifest, Manifests, Secret, load_manifests
from runtime.core.resources.token import check_value
from runtime.reconcile import Desired, Login

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE_BYTES = 16 * 1024 * 1024
"""Of one file: some sixty of the largest resources."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the sources declare, and what a person should know of them."""

    desired: tuple[Desired, ...]
    notes: tuple[str, ...]


def load(sources: Sequence[str], *, recursive: bool = False, secrets: str | None = None) -> Loaded:
    """Return the documents of files, folders and stdin (`-`), in that order.

    A Secret that one refers to is looked for among them, then in the folder `secrets`, then in a file NAME.yaml beside
    the document. Raises InvalidResource with the mistakes of all of them at once, InvalidInput for a file that cannot
    be read; nothing was written then.
    """
    try:
        found = load_manifests(_texts(sources, recursive=recursive))
        if not found.resources:
            raise InvalidResource(
                f"{', '.join(sources).replace(STDIN, 'stdin')}: holds no resource",
                hint="Write documents of kind User, Role, Token, TrustedCluster; see docs/resources.md.",
            )
        lookup = _Secrets(found, secrets)
        desired, mistakes = [], []
        for manifest in found.resources:
            try:
                desired.append(Desired(manifest.resource, lookup.value_for(manifest), lookup.login_for(manifest)))
            except InvalidInput as error:
                mistakes.append(error.in_full)
        if mistakes:
            raise InvalidResource("\n".join(mistakes))
    except InvalidResource as error:
        raise InvalidResource(str(error), hint=f"Nothing was written. {error.hint}".strip()) from error
    return Loaded(tuple(desired), tuple(f"skipped, not of teleport.internal: {each}" for each in found.skipped))


class _Secrets:
    """The Secrets that documents may refer to."""

    def __init__(self, found: Manifests, folder: str | None) -> None:
        self._given = found.secrets
        self._folder = Path(folder) if folder is not None else None
        if self._folder is not None and not self._folder.is_dir():
            raise InvalidInput(f"there is no folder {folder}", hint="Name the folder of the Secrets with --secrets.")

    def value_for(self, manifest: Manifest) -> str | None:
        """Return what the Secret of a token or trusted cluster holds; None without one. Raises InvalidInput."""
        resource = manifest.resource
        if isinstance(resource, TrustedCluster):
            return self._means_for(resource, manifest)
        if not isinstance(resource, Token):
            return None
        ref = resource.spec.secret_ref
        name, key = (ref.name, ref.key) if ref else (f"{resource.name}-token", "token")
        secret = self._find(name, manifest)
        if secret is None:
            return None
        if key not in secret.values:
            raise InvalidInput(
                f"{secret.place}: Secret {name}: has no key {key}, which Token {resource.name} refers to"
            )
        value = secret.values[key].rstrip("\r\n")  # `echo VALUE | kubectl create secret --from-file` leaves one
        try:
            check_value(value)
        except InvalidInput as error:
            raise InvalidInput(f"{secret.place}: Secret {name}: {key}: {error}", hint=error.hint) from error
        return value

    def _means_for(self, cluster: TrustedCluster, manifest: Manifest) -> str | None:
        name, key = cluster.secret()
        secret = self._find(name, manifest)
        if secret is None:
            return None
        means = cluster.means_in(secret.values)
        if means is None:
            raise InvalidInput(
                f"{secret.place}: Secret {name}: has no key {key}, which TrustedCluster {cluster.name} refers to"
            )
        return means

    def login_for(self, manifest: Manifest) -> Login | None:
        """Return a user's credentials, None for who is invited, and for other kinds. Raises InvalidInput."""
        resource = manifest.resource
        if not isinstance(resource, User) or (ref := resource.spec.credentials_secret_ref) is None:
            return None
        secret = self._find(ref.name, manifest)
        if secret is None:
            raise InvalidInput(
                f"{manifest.place}: User {resource.name}: spec.credentialsSecretRef: there is no Secret {ref.name}",
                hint=f"Put it among the documents, or into {ref.name}.yaml beside them or in the folder --secrets.",
            )
        if not (password := secret.values.get("password", "").rstrip("\r\n")):
            raise InvalidInput(
                f"{secret.place}: Secret {ref.name}: has no key password, which User {resource.name} needs"
            )
        return Login(password, secret.values.get("otpSecret", "").strip())

    def _find(self, name: str, manifest: Manifest) -> Secret | None:
        namespace = manifest.resource.metadata.namespace
        named = [secret for secret in self._given if secret.name == name]
        if not named:
            named = [secret for path in self._paths(name, manifest) for secret in _read(path, name)]
        if len(named) > 1:
            named = [secret for secret in named if secret.namespace == namespace] or named
        if len(named) > 1:
            places = " and ".join(secret.place for secret in named)
            raise InvalidInput(f"{manifest.place}: the Secret {name} is there more than once, at {places}")
        return named[0] if named else None

    def _paths(self, name: str, manifest: Manifest) -> Iterator[Path]:
        """Yield the first file of that name in the folder of Secrets, else beside the document."""
        source = manifest.place.rpartition(":")[0]
        folders = [folder for folder in (self._folder, None if source == "stdin" else Path(source).parent) if folder]
        files = [folder / f"{name}{suffix}" for folder in folders for suffix in SUFFIXES]
        yield from [file for file in files if file.is_file()][:1]


def _read(path: Path, name: str) -> Iterable[Secret]:
    """Return the Secret in a file that is named for it. Raises InvalidInput."""
    found = load_manifests([(str(path), _content(path))])
    secrets = [secret for secret in found.secrets if secret.name == name]
    if not secrets:
        raise InvalidInput(f"{path}: holds no Secret {name}")
    return secrets


def _texts(sources: Iterable[str], *, recursive: bool) -> Iterator[tuple[str, str]]:
    seen: set[Path] = set()
    for source in sources:
        if source == STDIN:
            yield "stdin", _decode("stdin", sys.stdin.buffer.read(MAX_FILE_BYTES + 1))
            continue
        path = Path(source)
        try:
            files = _members(path, recursive=recursive) if path.is_dir() else [path]
        except OSError as error:
            raise _unreadable(path, error) from error
        for file in files:
            if (same := file.absolute()) not in seen:  # a folder and a file of it
                seen.add(same)
                yield str(file), _content(file)


def _members(folder: Path, *, recursive: bool) -> list[Path]:
    """Return the files of a folder, and of those within it; hidden ones, such as .git, are nobody's documents."""
    found = [file for file in (folder.rglob("*") if recursive else folder.iterdir()) if file.suffix in SUFFIXES]
    hidden = [file for file in found if any(part.startswith(".") for part in file.relative_to(folder).parts)]
    files = sorted(file for file in found if file.is_file() and file not in hidden)
    if not files:
        within = "" if recursive else "Folders within it are not looked into without --recursive (-R)."
        raise InvalidInput(f"{folder} holds no file named {', '.join('*' + each for each in SUFFIXES)}", hint=within)
    return files


def _content(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return _decode(str(file), stream.read(MAX_FILE_BYTES + 1))
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"{error.filename or path} cannot be read: {error.strerror}", hint="Nothing was written.")


def _decode(source: str, content: bytes) -> str:
    if len(content) > MAX_FILE_BYTES:
        raise InvalidInput(f"{source} is larger than {MAX_FILE_BYTES:,} bytes", hint="Split it.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{source}:{line}: is not UTF-8 text", hint="Nothing was written.") from error
