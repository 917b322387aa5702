"""The tests of Ashtree, mirrored per module."""
