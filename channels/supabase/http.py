"""Broadcasts over HTTP, as `httpSend` of supabase's clients sends them."""

from __future__ import annotations

from channels.serving.plug import Plug
from channels.supabase.socket import SupabaseSocket

__all__ = ["SupabaseHttp"]


class SupabaseHttp(Plug):
    """The routes."""

    def __init__(self, socket: type[SupabaseSocket], path: str = "/realtime/v1") -> None:
        self._socket = socket
