"""The pools of an endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from channels.durable import History
from channels.testing import ChannelTest
from supervision import ChildSpec, DynamicSupervisor
from tests.channels.durable.documents import endpoint_of, joined


async def test_all_joins_of_a_durable_channel_share_one_child_spec(
    channel_test: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[ChildSpec] = []
    request_start = DynamicSupervisor.request_start

    def recorded(supervisor: object, child: ChildSpec, /, *extra: Any) -> Any:
        specs.append(child)
        return request_start(supervisor, child, *extra)

    case: ChannelTest = await channel_test(endpoint_of(History()))
    monkeypatch.setattr(DynamicSupervisor, "request_start", staticmethod(recorded))
    await joined(case)
    await joined(case)
    first, second = (spec for spec in specs if spec.id == "channel")
    assert first is second
