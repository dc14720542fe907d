"""audit.recordings_uri: a bucket, a prefix, and nothing that is misunderstood."""

from __future__ import annotations

import pytest

from runtime.backend.objects import S3Options
from runtime.core.errors import InvalidInput
from runtime.service.object_uri import parse_object_uri


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("s3://recordings", S3Options("recordings")),
        ("s3://my.bucket-1/", S3Options("my.bucket-1")),
        ("s3://recordings/main/2017?region=eu-west-1", S3Options("recordings", "main/2017/", "eu-west-1")),
        (
            "s3://recordings/x/?endpoint=https://minio.main.example:9000&region=us-east-1",
            S3Options("recordings", "x/", "us-east-1", "https://minio.main.example:9000"),
        ),
        (
            "s3://recordings?endpoint=http%3A%2F%2F127.0.0.1%3A9000",
            S3Options("recordings", endpoint="http://127.0.0.1:9000"),
        ),
    ],
)
def test_what_it_says(uri: str, options: S3Options) -> None:
    """Region and endpoint may be given, in any order; a prefix ends with a slash."""
    assert parse_object_uri(uri) == options


@pytest.mark.parametrize(
    ("uri", "reasons"),
    [
        ("https://recordings", ["the scheme is not s3 but 'https'"]),
        ("recordings", ["the scheme is not s3", "no bucket"]),
        ("s3://", ["no bucket"]),
        ("s3://Recordings", ["'Recordings' is no bucket's name"]),
        ("s3://ab", ["no bucket's name"]),
        ("s3://a..b", ["no bucket's name"]),
        ("s3://192.168.0.1", ["no bucket's name"]),
        ("s3://recordings:9000/x", ["no bucket's name"]),
        ("s3://recordings/../x", ["no prefix"]),
        ("s3://recordings/a//b", ["no prefix"]),
        ("s3://recordings/a%2e", ["no prefix"]),
        ("s3://recordings/x#y", ["fragment"]),
        ("s3://recordings?regoin=eu", ["the key 'regoin' is not known; did you mean region?"]),
        ("s3://recordings?access_key=AKIA", ["the key 'access_key' is not known"]),
        ("s3://recordings?region=a&region=b", ["region is there more than once"]),
        ("s3://recordings?region=EU%20West", ["'EU West' is no region"]),
        ("s3://recordings?region=", ["is no region"]),
        ("s3://recordings?endpoint=minio", ["the endpoint is wrong"]),
        ("s3://recordings?endpoint=ftp://minio", ["the endpoint is wrong"]),
        ("s3://recordings?endpoint=https://u:secret@minio", ["the endpoint is wrong"]),
        ("s3://recordings?endpoint=https://minio/path", ["without a path"]),
        ("s3://recordings?region", ["no URI"]),
        ("s3://recordings/\n", ["no URI"]),
        ("s3://key:secret@recordings", ["credentials do not belong there"]),
        ("http://Recordings/a b?x=1", ["the scheme", "no bucket", "no prefix", "'x' is not known"]),
    ],
)
def test_what_cannot_be_right(uri: str, reasons: list[str]) -> None:
    """All that is wrong is said in one error, with what was expected, and no secret."""
    with pytest.raises(InvalidInput) as caught:
        parse_object_uri(uri)
    said = str(caught.value)
    assert said.startswith("expected s3://BUCKET/PREFIX")
    assert [reason for reason in reasons if reason not in said] == []
    assert "secret" not in said
