"""Wire formats: how messages and frames are written for each version of the protocol."""

from channels.serializers.base import Codec as Codec
from channels.serializers.base import Serializer as Serializer
from channels.serializers.base import negotiate as negotiate
from channels.serializers.defaults import DEFAULT_SERIALIZERS as DEFAULT_SERIALIZERS
from channels.serializers.v1 import V1 as V1
from channels.serializers.v2 import V2 as V2
from channels.serializers.versions import DEFAULT_VSN as DEFAULT_VSN
from channels.serializers.versions import Requirement as Requirement
