"""A page that shows the processes of a running endpoint. `import channels` does not load it.

    from channels.observer import Observer

    endpoint = Endpoint(sockets={"/socket": UserSocket}, observer=Observer())

The page is at `/_ashtree/observer`. The endpoint prints its address, with a token, when it starts.
"""

from channels.observer.observer import Observer, PhoenixMissing

__all__ = ["Observer", "PhoenixMissing"]
