"""Checks that the pictures of the examples are up to date."""

import pytest

from tests.examples.pictures import FOLDER, PAGES, digest, recorded


@pytest.mark.parametrize("name", PAGES)
def test_each_picture_shows_the_current_version_of_its_page(name: str) -> None:
    assert (FOLDER / f"{name}.png").is_file(), "run `make pictures`"
    assert recorded().get(name) == digest(name), "the page has changed: run `make pictures`"


def test_every_picture_belongs_to_a_page() -> None:
    assert {file.stem for file in FOLDER.glob("*.png")} == set(PAGES) == set(recorded())
