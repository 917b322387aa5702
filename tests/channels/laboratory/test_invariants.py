from channels.laboratory.invariants import _REMEMBERED, _Codec
from channels.serializers.serializer import Codec
from channels.serializers.v2 import V2
from channels.wire.websocket import frame


def test_a_frame_that_is_written_again_is_remembered_as_the_newest() -> None:
    codec = _Codec(Codec(V2(), frame))
    codec.close("1", "room:a")
    for number in range(_REMEMBERED - 1):
        codec.reply("1", str(number), "room:a", "ok", {})
    waiting = codec.close("1", "room:a")
    codec.reply("1", "new", "room:a", "ok", {})
    assert codec.meanings[waiting].kind == "phx_close"
