"""The wire formats that a socket offers unless it is told otherwise."""

from __future__ import annotations

from typing import Final

from channels.serializers.base import Serializer
from channels.serializers.v1 import V1
from channels.serializers.v2 import V2
from channels.serializers.versions import Requirement

__all__ = ["DEFAULT_SERIALIZERS"]

DEFAULT_SERIALIZERS: Final[tuple[tuple[Serializer, Requirement], ...]] = (
    (V1(), Requirement("~> 1.0.0")),
    (V2(), Requirement("~> 2.0.0")),
)
"""Serializers with the versions that they serve, in the order in which `negotiate` tries them."""
