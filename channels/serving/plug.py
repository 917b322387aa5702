"""Plugs, the extensions for the operation of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from actors.errors import InvalidOption
from channels.serving.services import Services, Tracer
from channels.transports.asgi_stream import ASGIApplication
from supervision.child_spec import ChildSpec

__all__ = ["Plug", "check_path"]


class Plug:
    """Base class of extensions for the operation of a server, such as `channels.operations.health.Health`.

    Subclass it, override the methods that you need, and pass an instance to the endpoint: `plugs=[...]`. Ashtree does
    not import the modules of its plugs. The application does.

    Attributes:
        tracer: the object that makes spans of what clients cause; None makes no spans.
        public: True if the public port serves the pages of this plug even if the endpoint has an internal port. The
            internal port always serves them.
    """

    tracer: Tracer | None = None
    public: bool = False

    def attach(self, services: Services) -> Callable[[], None]:
        """Attach the plug to an endpoint that starts. Return a function that detaches it.

        The endpoint's supervisor calls this method and the returned function.
        """
        return _nothing

    def children(self, services: Services) -> Sequence[ChildSpec]:
        """Return child specs of the processes of the plug. The endpoint starts them before its channels."""
        return ()

    def find(self, scope: Any, services: Services) -> ASGIApplication | None:
        """Return the application that serves an HTTP request; None if the request is not for this plug."""
        return None


def check_path(owner: str, path: object, *, example: str) -> None:
    """Check the option `path` of a plug, which serves this path and the paths below it.

    Args:
        owner: the name of the class with the option, for errors.
        path: the value.
        example: a valid path, for errors.

    Raises:
        InvalidOption: the value does not begin with a slash, ends with one, or has characters that the path of a
            request never has.
    """
    if (
        not isinstance(path, str)
        or not path.startswith("/")
        or path.endswith("/")
        or quote(path, safe="/%:@!$&'()*+,;=") != path
    ):
        raise InvalidOption(owner, "path", path, f'a path such as "{example}", percent-encoded')


def _nothing() -> None:
    pass
