"""The mounts, services and plugs that connections and channels get from their endpoint."""
