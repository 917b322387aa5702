"""What is on offer to clients by default."""

from __future__ import annotations

import pytest

from channels.serializers import DEFAULT_SERIALIZERS, V2, negotiate


@pytest.mark.parametrize("vsn", ["2.0.0", "2.0.5", "2.0.1-rc.1"])
def test_version_2_is_on_offer(vsn: str) -> None:
    assert isinstance(negotiate(vsn, DEFAULT_SERIALIZERS), V2)


@pytest.mark.parametrize("vsn", ["2.1.0", "3.0.0", "2.0", "abc", "", ["2.0.0"]])
def test_versions_of_the_recording_that_phoenix_refuses_are_refused(vsn: object) -> None:
    assert negotiate(vsn, DEFAULT_SERIALIZERS) is None
