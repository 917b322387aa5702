"""The options of long polling, and of mounts about it."""

from __future__ import annotations

from typing import Any

import pytest

from actors import InvalidOption
from channels import Endpoint, EndpointError, LongPoll, Mount
from channels.endpoint.pools import pools_of
from channels.serving.mounted import mount_all
from channels.socket import router_of
from tests.channels.rooms import UserSocket


def test_defaults_are_those_of_phoenix_and_plug() -> None:
    options = LongPoll()
    assert (options.path, options.window, options.pubsub_timeout) == ("/longpoll", 10.0, 2.0)
    assert (options.max_age, options.max_body_bytes) == (1_209_600, 8_000_000)


def test_long_polling_is_off_unless_a_mount_enables_it() -> None:
    assert Mount(UserSocket).longpoll is False
    assert Mount(UserSocket).websocket is True


@pytest.mark.parametrize(
    "options",
    [
        {"window": 0},
        {"window": "10"},
        {"pubsub_timeout": -1},
        {"max_age": 0},
        {"max_body_bytes": 1.5},
        {"body_timeout": 0},
        {"path": "longpoll"},
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        LongPoll(**options)
    assert refused.value.option in options


def test_options_of_another_kind_are_refused() -> None:
    options: Any = {"window": 20.0}
    with pytest.raises(InvalidOption) as refused:
        Mount(UserSocket, longpoll=options)
    assert refused.value.option == "longpoll"


def test_a_mount_without_any_transport_is_refused() -> None:
    with pytest.raises(InvalidOption) as refused:
        Mount(UserSocket, websocket=False)
    assert refused.value.option == "websocket"


def test_two_transports_at_one_path_are_one_too_many() -> None:
    same = Mount(UserSocket, longpoll=LongPoll(path="/websocket"))
    with pytest.raises(EndpointError, match="and long polling are both mounted"):
        Endpoint(sockets={"/socket": same}).check()
    only = Mount(UserSocket, websocket=False, longpoll=LongPoll(path="/websocket"))
    Endpoint(sockets={"/socket": only}).check()
    before: Any = {
        "/a": Mount(UserSocket, websocket=False, longpoll=LongPoll(path="/b/websocket")),
        "/a/b": UserSocket,
    }
    with pytest.raises(EndpointError, match="and long polling are both mounted"):
        Endpoint(sockets=before).check()
    with pytest.raises(EndpointError, match="two sockets are mounted"):
        Endpoint(sockets={"/socket": only, "/socket/": only}).check()


def test_a_number_of_sessions_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidOption) as refused:
        Endpoint(sockets={}, max_sessions=0).check()
    assert refused.value.option == "max_sessions"


def test_a_broadcast_is_encoded_once_for_the_clients_of_all_mounts() -> None:
    mount = Mount(UserSocket, longpoll=True)
    mounts = {"/socket": mount, "/again": mount}
    mounted = mount_all(mounts, pools_of(object(), mounts), router_of)
    one, other = mounted.longpolls.values()
    assert one is not other
    assert list(one.message_codecs.values()) == list(other.message_codecs.values())
    assert not set(one.message_codecs.values()) & set(one.codecs.values())
