"""Several processes that serve one endpoint: their parent, and the adapter that connects their PubSubs."""
