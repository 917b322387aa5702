"""A Phoenix Channels server whose connections and channels are supervised actors."""
