"""The generators `ashtree new` and `ashtree gen`: new projects, channels, presences and sockets."""
