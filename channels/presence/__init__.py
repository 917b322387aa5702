"""Presence: the members of topics on all nodes, as a replicated set without tombstones.

`delta`, `state` and `generations` are the set, `clock` compares versions, `replica` knows which nodes live,
`snapshot` and `diff` serve readers and clients, `wire` and `transfer` are the forms that travel between nodes.
"""
