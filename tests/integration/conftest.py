"""The examples, served once for each module that asks for them."""

from collections.abc import Iterator

import pytest

from tests.integration.servers import Server, serving


@pytest.fixture(scope="module")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`examples.conformance`, which obeys its clients."""
    with serving("examples.conformance", tmp_path_factory.mktemp("conformance")) as server:
        yield server


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`examples.chat`, with its page."""
    with serving("examples.chat", tmp_path_factory.mktemp("chat")) as server:
        yield server
