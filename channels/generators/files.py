"""The files of generated projects, channels, presences, entities and sockets, from their templates.

A template is a file of this package. It contains placeholders such as `{{key}}`. `render` replaces them with values.
`write` creates no file if one of the files exists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from channels.errors import ChannelsError
from channels.generators.names import Name
from channels.generators.wheel import wheel_name

__all__ = [
    "PHOENIX_VERSION",
    "exists_already",
    "module_files",
    "project_files",
    "render",
    "write",
]

PHOENIX_VERSION: Final = "1.8.16"
"""The version of phoenix.js in generated projects."""

_CDN: Final = f"https://cdn.jsdelivr.net/npm/phoenix@{PHOENIX_VERSION}/priv/static/phoenix.mjs"
# The SHA-384 of `priv/static/phoenix.mjs` in the npm package `phoenix`.
_INTEGRITY: Final = "sha384-mkGEZlYH5wncGsOOB5miRhQisfIeC4dI72aeLWaDTUXmfVQwxA3ab9o2YOvdaxf/"
_PLACE: Final = re.compile(r"\{\{(\w+)\}\}")


def exists_already(path: Path, instead: str) -> ChannelsError:
    """Return the error of a generator that would overwrite a file or a folder, and so writes nothing."""
    return ChannelsError(f"{path} exists already, and nothing was written; {instead}")


def render(template: str, values: Mapping[str, str]) -> str:
    """Return the text of a template with values in place of its placeholders.

    Args:
        template: the template's path below the folder `templates`, without `.template`.
        values: maps the key of each placeholder to its value.

    Raises:
        KeyError: a placeholder has no value.
    """
    source = files(__package__) / "templates" / f"{template}.template"
    return _PLACE.sub(lambda found: values[found[1]], source.read_text("utf-8"))


def project_files(name: Name) -> dict[str, str]:
    """Return the files of a new project, except the wheel of Ashtree, as a dict from paths to texts.

    Raises:
        ChannelsError: Ashtree runs from a folder, but is not installed.
    """
    package, values = name.snake, _values(name)
    places = {
        f"{package}/__init__.py": "init.py",
        f"{package}/endpoint.py": "endpoint.py",
        f"{package}/room_channel.py": "room_channel.py",
        f"{package}/static/index.html": "index.html",
        f"{package}/static/app.css": "app.css",
        f"{package}/static/app.js": "app.js",
        "tests/test_room_channel.py": "test_room_channel.py",
        "README.md": "README.md",
        "pyproject.toml": "pyproject.toml",
        "requirements.txt": "requirements.txt",
        "requirements-dev.txt": "requirements-dev.txt",
        "package.json": "package.json",
        "Dockerfile": "Dockerfile",
        ".dockerignore": "dockerignore",
        ".gitignore": "gitignore",
        f"deploy/{name.dashed}.service": "service",
    }
    return {path: render(f"project/{template}", values) for path, template in places.items()}


def module_files(kind: str, name: Name, package: str, **more: str) -> dict[str, str]:
    """Return a module and its test, as a dict from paths to texts.

    Args:
        kind: `channel`, `presence`, `entity` or `socket`.
        name: the name of the channel, the presence, the entity or the socket.
        package: the package of the project.
        more: further values of the templates: `mount`, the path at which the endpoint mounts a socket.
    """
    module = name.snake if kind in ("presence", "entity") else f"{name.snake}_{kind}"
    values = {**_values(name), "package": package, **more}
    return {
        f"{package}/{module}.py": render(f"{kind}/{kind}.py", values),
        f"tests/test_{module}.py": render(f"{kind}/test.py", values),
    }


def _values(name: Name) -> dict[str, str]:
    return {
        "name": name.snake,
        "Name": name.camel,
        "dashed": name.dashed,
        "title": name.title,
        "words": name.words,
        "plural": name.plural,
        # As a formatter sorts them.
        "history_and_plural": ", ".join(sorted(("history", name.plural))),
        "wheel": wheel_name(),
        "phoenix": PHOENIX_VERSION,
        "cdn": _CDN,
        "integrity": _INTEGRITY,
    }


def write(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Create files in a folder.

    Args:
        folder: the folder. `write` creates it if it does not exist.
        contents: a dict from paths below the folder to texts or bytes.

    Raises:
        ChannelsError: one of the files exists. In this case, `write` creates no file.
    """
    for path in contents:
        if (folder / path).exists() or (folder / path).is_symlink():
            raise exists_already(folder / path, "delete it, or choose another name")
    for path, text in contents.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        # The mode "x" fails if another program has created the file since the check.
        with place.open("xb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
