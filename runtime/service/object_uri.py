"""The URI of a place for objects: s3://BUCKET/PREFIX?region=REGION&endpoint=URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from runtime.backend.objects import S3Options
from runtime.core.errors import InvalidInput
from runtime.service.values import did_you_mean, parse_text, parse_url, shown

_BUCKET = re.compile(r"(?!.*\.\.)(?![0-9.]+\Z)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")  # S3 User Guide, bucket naming rules
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(?:/[A-Za-z0-9!_.*'()-]+)*\Z")  # its characters that are safe in keys
_REGION = re.compile(r"[a-z0-9-]{1,40}\Z")
_KEYS = ("region", "endpoint")
_EXPECTED = "expected s3://BUCKET/PREFIX?region=REGION, and endpoint=URL where it is not Amazon's"


def parse_object_uri(text: str) -> S3Options:
    """Return what the URI says. Raises InvalidInput, which names all that is wrong, and shows no credential."""
    try:
        url = urlsplit(parse_text(text))
        pairs = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        authority = url.netloc
    except (ValueError, InvalidInput):
        raise InvalidInput(f"{_EXPECTED}; this is no URI") from None
    if "@" in authority:
        raise InvalidInput(
            f"{_EXPECTED}; credentials do not belong there (not shown): give them as for AWS's own tools"
        )
    prefix = url.path.strip("/")
    problems = [
        *([] if url.scheme == "s3" else [f"the scheme is not s3 but {shown(url.scheme)}"]),
        *(
            []
            if _BUCKET.match(authority)
            else [f"{shown(authority)} is no bucket's name: 3 to 63 of a-z, 0-9, - and ."]
        ),
        *(
            []
            if not prefix or _prefix(prefix)
            else [f"{shown(prefix)} is no prefix: letters, digits, / - _ . and !*'()"]
        ),
        *(["there is no place for a fragment (#) in it"] if url.fragment else []),
        *_of_query(pairs),
    ]
    if problems:
        raise InvalidInput(f"{_EXPECTED}; {'; '.join(problems)}")
    given = dict(pairs)
    return S3Options(
        bucket=authority,
        prefix=f"{prefix}/" if prefix else "",
        region=given.get("region"),
        endpoint=given.get("endpoint"),
    )


def _prefix(text: str) -> bool:
    return bool(_PREFIX.match(text)) and not {".", ".."} & set(text.split("/"))


def _of_query(pairs: list[tuple[str, str]]) -> Iterator[str]:
    """Yield what is wrong with the keys and values after the question mark."""
    names = [name for name, _ in pairs]
    for name in dict.fromkeys(names):
        if name not in _KEYS:
            yield f"the key {shown(name)} is not known{did_you_mean(name, list(_KEYS))}"
        elif names.count(name) > 1:
            yield f"the key {name} is there more than once"
    for name, value in pairs:
        if name == "region" and not _REGION.match(value):
            yield f"{shown(value)} is no region such as eu-west-1"
        if name == "endpoint":
            try:
                parse_url(value, schemes=("https", "http"))
                if urlsplit(value).path.strip("/") or urlsplit(value).query:
                    raise InvalidInput("expected a URL without a path")
            except InvalidInput as error:
                yield f"the endpoint is wrong: {error}"
