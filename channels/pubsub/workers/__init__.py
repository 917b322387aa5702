"""Several workers for one endpoint: the parent that runs them, and the adapter that connects their PubSubs."""
