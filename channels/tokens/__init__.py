"""Signed and encrypted tokens, compatible with Phoenix.Token."""
