"""Serializers: the encodings of messages in each version of the protocol."""

from channels.serializers.serializer import DEFAULT_SERIALIZERS as DEFAULT_SERIALIZERS
from channels.serializers.serializer import DEFAULT_VSN as DEFAULT_VSN
from channels.serializers.serializer import Codec as Codec
from channels.serializers.serializer import Requirement as Requirement
from channels.serializers.serializer import Serializer as Serializer
from channels.serializers.serializer import negotiate as negotiate
from channels.serializers.v1 import V1 as V1
from channels.serializers.v2 import V2 as V2
