"""Pins and fences: hidden entropy is pinned, the real world is fenced off."""
