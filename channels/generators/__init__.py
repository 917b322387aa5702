"""The generators `ashtree new` and `ashtree gen`, which create projects, channels, presences and sockets."""
