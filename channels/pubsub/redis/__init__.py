"""PubSub through Redis or Valkey: the URL, the protocol, the connections and the adapter."""
