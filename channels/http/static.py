"""An ASGI application that serves the files of folders, such as pages, scripts, styles and images.

    endpoint = Endpoint(sockets={"/socket": UserSocket}, static="page")

The endpoint loads this module only if it has the option `static`.

`find_file` opens the file that a path names, and never a file outside the folder. `StaticFiles` reads files in threads,
so that a slow disk does not block the event loop. At most `max_threads` threads read at the same time.

Source: RFC 9110, sections 8.8, 13.1 and 15.4.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from email.utils import formatdate, mktime_tz, parsedate_tz
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote

import trio
from attrs import frozen

from actors.errors import InvalidOption
from channels.http.handover import not_found
from channels.transports.asgi_stream import ASGIApplication, path_of

__all__ = ["Folders", "FoundFile", "StaticFiles", "check_folders", "find_file", "type_of"]

Folders: TypeAlias = str | Path | Mapping[str, str | Path]
"""A folder for the path `/`, or a dict from paths to folders."""

_CHUNK: Final = 256 * 1024
# The characters of a path that browsers do not encode, and the sign of those that are encoded.
_IN_PATHS: Final = "/%:@!$&'()*+,;="
_WELL_KNOWN: Final = ".well-known"
_METHODS: Final = ("GET", "HEAD")

# The media types of file name extensions. `mimetypes` is no replacement, because it also reads tables of the system,
# which differ between machines.
_TYPES: Final = {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".gif": "image/gif",
    ".gz": "application/gzip",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".otf": "font/otf",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".zip": "application/zip",
}


def type_of(name: str) -> str:
    """Return the media type for a file name.

    >>> type_of("page.HTML"), type_of("data.bin")
    ('text/html; charset=utf-8', 'application/octet-stream')
    """
    return _TYPES.get(Path(name).suffix.lower(), "application/octet-stream")


def check_folders(static: Any) -> dict[str, Path]:
    """Return the option `static` as a dict from percent-encoded paths to folders. The longest path comes first.

    Raises:
        InvalidOption: the option is neither a folder nor a dict of folders, a folder does not exist, or a path occurs
            twice.
    """
    given = static if isinstance(static, Mapping) else {"/": static}
    folders: dict[str, Path] = {}
    for path, folder in given.items():
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidOption("Endpoint", "static", path, 'paths such as "/" or "/assets"')
        if not isinstance(folder, str | Path):
            raise InvalidOption(
                "Endpoint", "static", static, "a folder, or a dict of paths to folders"
            )
        place = Path(folder).absolute()
        if not place.is_dir():
            raise InvalidOption("Endpoint", "static", str(folder), _advice(place))
        beginning = quote(path.rstrip("/"), safe=_IN_PATHS) + "/"
        if beginning in folders:
            raise InvalidOption("Endpoint", "static", path, "each path once")
        folders[beginning] = place
    return dict(sorted(folders.items(), key=lambda each: len(each[0]), reverse=True))


def _advice(folder: Path) -> str:
    if "node_modules" in folder.parts:
        parent = Path(*folder.parts[: folder.parts.index("node_modules")])
        return f"a folder that exists; `npm install --prefix {parent}` makes this one"
    return "a folder that exists, such as Path(__file__).parent / 'static'"


@frozen
class FoundFile:
    """An open file that a path names.

    Attributes:
        name: the name of the file, which determines the media type.
        file: the open file, at its beginning.
        size: the size in bytes.
        modified: the time of the last change, in nanoseconds since 1970.
    """

    name: str
    file: FileIO
    size: int
    modified: int

    @property
    def etag(self) -> str:
        """The entity tag. It changes when the file's time or size changes."""
        return f'"{self.modified:x}-{self.size:x}"'


def find_file(folder: Path, path: str, *, is_top: bool = False) -> FoundFile | str | None:
    """Open the file that a path names. Blocks, so call it in a thread.

    Args:
        folder: the folder.
        path: the path below the folder, percent-encoded, without a slash at its beginning.
        is_top: True if the endpoint serves the folder at `/`. Then the first segment may be `.well-known` (RFC 8615).

    Returns:
        The open file; None if the path names no file. If the path names a folder but has no slash at its end, the
        result is a text: the decoded name of the folder and a slash.

    Apart from `.well-known`, a segment that begins with a dot makes the result None. So the function opens no hidden
    files, and a path with `..` cannot leave the folder. The function opens no symbolic link whose target is outside the
    folder or hidden, except a target in a folder such as `..2026_01_31`. Kubernetes links the files of a ConfigMap to
    such a folder.
    """
    try:
        segments = [unquote(each, errors="strict") for each in path.split("/")]
    except UnicodeDecodeError:
        return None
    is_folder = segments[-1] == ""
    names = segments[:-1] if is_folder else segments
    plain = names[1:] if is_top and names[:1] == [_WELL_KNOWN] else names
    if any(not each or each.startswith(".") or set(each) & {"/", "\\", "\0"} for each in plain):
        return None
    root = os.path.realpath(folder)
    page = ["index.html"] if is_folder else []
    wanted = os.path.realpath(Path(root, *names, *page))
    if os.path.commonpath([root, wanted]) != root:
        return None
    # Of a symbolic link, check the target too: a link must not lead to a hidden file.
    target = Path(wanted).relative_to(root).parts
    if is_top and names[:1] == [_WELL_KNOWN] == list(target[:1]):
        target = target[1:]
    if any(each.startswith(".") and not _is_mounted(each) for each in target[:-1]):
        return None
    if target[-1:] and target[-1].startswith("."):
        return None
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for its writer.
        number = os.open(wanted, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    about = os.fstat(number)
    if stat.S_ISREG(about.st_mode):
        file = os.fdopen(number, "rb", buffering=0)
        return FoundFile(Path(wanted).name, file, about.st_size, about.st_mtime_ns)
    os.close(number)
    has_page = not is_folder and Path(wanted, "index.html").is_file()
    return f"{names[-1]}/" if has_page else None


def _is_mounted(folder: str) -> bool:
    """Return True for the name of a folder as Kubernetes makes it for the files of a mounted ConfigMap or Secret."""
    return folder.startswith("..") and len(folder) > 2


class StaticFiles:
    """An ASGI application that serves the files of folders.

        app = StaticFiles({"/": Path("page"), "/phoenix": Path("node_modules/phoenix/priv/static")}, inner=pages)

    Args:
        folders: a folder for the path `/`, or a dict from paths to folders.
        inner: the application for all requests that name no file. With None, these requests get 404, and requests with
            other methods than GET and HEAD get 405.
        max_threads: the maximum number of threads that read files at the same time. Further reads wait.

    Raises:
        InvalidOption: a folder does not exist.

    A path that ends with a slash names the `index.html` of that folder. A browser may keep a copy of each file, but
    must ask before each use whether the file has changed. `StaticFiles` does not support ranges or compression, and
    does not list the files in a folder.
    """

    def __init__(
        self, folders: Folders, inner: ASGIApplication | None = None, *, max_threads: int = 8
    ) -> None:
        self._folders = check_folders(folders)
        self._inner = inner
        self._threads = trio.CapacityLimiter(max_threads)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        other = not_found if self._inner is None else self._inner
        if scope["type"] != "http":
            await other(scope, receive, send)
        elif scope["method"] in _METHODS:
            found = await self._find(path_of(scope))
            if found is None:
                await other(scope, receive, send)
            elif isinstance(found, str):
                await _redirect(scope, send, found)
            else:
                try:
                    await self._answer(scope, receive, send, found)
                finally:
                    found.file.close()
        elif self._inner is None:
            allow = [("allow", ", ".join(_METHODS))]
            await _send(send, 405, b"This path serves GET and HEAD.\n", allow)
        else:
            await other(scope, receive, send)

    async def _find(self, path: str) -> FoundFile | str | None:
        for beginning, folder in self._folders.items():
            if path.startswith(beginning):
                find = partial(find_file, folder, path[len(beginning) :], is_top=beginning == "/")
                found = await trio.to_thread.run_sync(find, limiter=self._threads)
                if found is not None:
                    return found
            elif f"{path}/" == beginning:
                return f"{unquote(path.rpartition('/')[2])}/"
        return None

    async def _answer(self, scope: Any, receive: Any, send: Any, found: FoundFile) -> None:
        headers = [
            ("etag", found.etag),
            ("last-modified", formatdate(found.modified // 10**9, usegmt=True)),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
        ]
        if _is_fresh(scope, found):
            await _send(send, 304, b"", headers, kind=None)
            return
        headers += [("content-type", type_of(found.name)), ("content-length", str(found.size))]
        await _start(send, 200, headers)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._send_body(receive, send, found)

    async def _send_body(self, receive: Any, send: Any, found: FoundFile) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
            left = found.size
            while left > 0:
                chunk = await trio.to_thread.run_sync(
                    found.file.read, min(left, _CHUNK), limiter=self._threads
                )
                if not chunk:
                    # The file has become shorter, so the length in the headers is wrong. The server ends the connection
                    # after this error.
                    raise OSError(f"{found.name} became shorter while it was sent")
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
            if found.size == 0:
                await send({"type": "http.response.body", "body": b""})
            nursery.cancel_scope.cancel()


async def _cancel_when_gone(receive: Any, scope: trio.CancelScope) -> None:
    """Cancel the response when the client has gone, so that no thread reads the rest of a large file."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _is_fresh(scope: Any, found: FoundFile) -> bool:
    """Return True if the client's copy is current. `If-None-Match` takes precedence over `If-Modified-Since`."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    tags = headers.get(b"if-none-match")
    if tags is not None:
        each = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return "*" in each or found.etag in each
    since = parsedate_tz(headers.get(b"if-modified-since", ""))
    if since is None:
        return False
    try:
        return found.modified // 10**9 <= mktime_tz(since)
    except (OverflowError, ValueError):
        return False


async def _redirect(scope: Any, send: Any, name: str) -> None:
    query = scope.get("query_string", b"").decode("latin-1")
    # The location is relative, because the client's path may have a prefix that a proxy removes. It begins with `./`,
    # because a name with a colon would otherwise look like a URL with a scheme.
    where = f"./{quote(name, safe='/')}" + (f"?{query}" if query else "")
    await _send(send, 307, b"", [("location", where)], kind=None)


async def _start(send: Any, status: int, headers: list[tuple[str, str]]) -> None:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def _send(
    send: Any,
    status: int,
    body: bytes,
    headers: list[tuple[str, str]],
    *,
    kind: str | None = "text/plain; charset=utf-8",
) -> None:
    own = [] if status == 304 else [("content-length", str(len(body)))]
    if kind is not None:
        own.append(("content-type", kind))
    await _start(send, status, [*headers, *own])
    await send({"type": "http.response.body", "body": body})
