"""The development page: the sockets and channels of an endpoint, and a console that talks to them."""
