"""Supabase's clients: `@supabase/realtime-js` and `realtime` for Python, unmodified.

Start with `SupabaseSocket` and `SupabaseChannel`.
"""

from channels.supabase.access import Action, Claims
from channels.supabase.changes import Change, Changes
from channels.supabase.channel import JoinPayload, SupabaseChannel
from channels.supabase.http import SupabaseHttp
from channels.supabase.serializers import SUPABASE_SERIALIZERS, raw_broadcast
from channels.supabase.socket import SupabaseSocket
from channels.tokens.jwt import sign_jwt, verify_jwt

__all__ = [
    "SUPABASE_SERIALIZERS",
    "Action",
    "Change",
    "Changes",
    "Claims",
    "JoinPayload",
    "SupabaseChannel",
    "SupabaseHttp",
    "SupabaseSocket",
    "raw_broadcast",
    "sign_jwt",
    "verify_jwt",
]
