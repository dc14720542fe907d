"""The sample of `teleport configure`, and the reference in docs/, both made from the settings."""

from __future__ import annotations

import re

import yaml

from runtime.service.load import resolve
from runtime.service.sample import sample
from runtime.service.schema import sections
from runtime.service.sections.storage import DynamoDBStorage, EtcdStorage
from runtime.service.settings import Settings
from tests.unit.service.reference import PAGE, page


def uncommented(*, alternatives: bool = False) -> str:
    """Return the sample with every example in force: where there are several, the first or else the last."""
    other = r"^ *#\w.*\n(?: *#  .*\n)* *# or\n" if alternatives else r"^ *# or\n(?: *#.*\n)+"
    chosen = re.sub(other, "", sample(), flags=re.MULTILINE)
    return re.sub(r"^( *)#(?! [^ ]|that_look|$)", r"\1", chosen, flags=re.MULTILINE)


def test_the_sample_means_the_defaults() -> None:
    """The sample is understood, and means the same as an empty file."""
    assert resolve(sample()) == Settings()


def test_the_sample_is_plain_text() -> None:
    """The sample is ASCII, fits a terminal and ends in one line feed."""
    assert sample().isascii()
    assert max(map(len, sample().splitlines())) <= 100
    assert sample().endswith("\n")
    assert not sample().endswith("\n\n")


def test_the_examples_are_good() -> None:
    """The sample with all its examples in force is understood, and is no longer the defaults."""
    settings = resolve(uncommented())
    assert settings.teleport.nodename == "graviton"
    assert settings.ssh_service.commands[1].command == ("/usr/bin/uname", "-p")
    assert isinstance(settings.teleport.storage, EtcdStorage)
    assert isinstance(resolve(uncommented(alternatives=True)).teleport.storage, DynamoDBStorage)


def test_the_sample_has_every_key() -> None:
    """Each key of each section is in the sample, but for storage, of which one kind is shown."""
    data = yaml.safe_load(uncommented())
    for path, section in sections(Settings):
        if path[:2] == ("teleport", "storage"):
            continue
        place = data
        for step in path:
            if isinstance(place, list):  # of a list with several kinds there is one of each
                (place,) = (item for item in place if item["type"] == step)
            else:
                place = place[step]
                place = place[0] if isinstance(place, list) and "type" not in place[0] else place
        assert set(section.model_fields) == set(place), path


def test_the_reference_is_current() -> None:
    """The tables of docs/configuration.md are those of the settings: `python -m tests.unit.service.reference`."""
    assert PAGE.read_text() == page(PAGE.read_text())


def test_every_key_is_described() -> None:
    """Each key has a description that is a sentence."""
    for path, section in sections(Settings):
        for key, field in section.model_fields.items():
            assert (field.description or "").endswith("."), (*path, key)
