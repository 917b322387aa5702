"""The arbiters: local, of the workers' parent, and in Redis or Valkey."""
