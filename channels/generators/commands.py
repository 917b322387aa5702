"""The commands `ashtree new` and `ashtree gen`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from channels.errors import ChannelsError
from channels.generators.files import exists_already, module_files, project_files, write
from channels.generators.names import Name, check_module, check_project, parse_name
from channels.generators.wheel import build_wheel, wheel_name

__all__ = ["add_generators"]

_RANDOM_TEXT: Final = 'python -c "import secrets; print(secrets.token_urlsafe(48))"'

_Package: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="PACKAGE", help="The package for the new module, if this folder has several."
    ),
]


def add_generators(app: typer.Typer, gen: typer.Typer) -> None:
    """Add `ashtree new` and `ashtree gen` to the application.

    Args:
        app: the application of the command `ashtree`.
        gen: an application without commands, for `ashtree gen`.
    """
    app.command("new", help="Create a project: a server, a channel, a page and tests.")(_new)
    for kind, command in _COMMANDS.items():
        article = "an" if kind == "entity" else "a"
        gen.command(kind, help=f"Create {article} {kind} and its test in this project.")(command)
    gen.command("durable", help="Write durable.mjs, for bundled pages with durable topics.")(
        _durable
    )
    gen.command("wheel", help="Replace the wheel of Ashtree in this project's folder vendor.")(
        _wheel
    )
    app.add_typer(gen, name="gen", help="Create parts of a project, or types for clients.")


def _new(
    name: Annotated[str, typer.Argument(help="The name of the project, such as chat.")],
) -> None:
    parsed = parse_name(name)
    check_project(parsed)
    folder = Path(parsed.snake)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise exists_already(folder, "choose another name, or go to another folder")
    contents: dict[str, str | bytes] = {
        **project_files(parsed),
        f"vendor/{wheel_name()}": build_wheel(),
    }
    write(folder, contents)
    typer.echo(f"Created {folder}/ with {len(contents)} files.\n")
    typer.echo(f"  cd {folder}\n  ashtree serve {parsed.snake}.endpoint:endpoint --reload\n")
    typer.echo("Then open http://127.0.0.1:4000 in two tabs. README.md has the next steps.")


def _channel(
    name: Annotated[str, typer.Argument(help="Such as game_table, for topics game_table:*.")],
    package: _Package = None,
) -> None:
    parsed, where = _parsed("channel", name), _package(package)
    _create(module_files("channel", parsed, where))
    typer.echo(f"Now add its route to a socket in {where}/endpoint.py:\n")
    typer.echo(f"  from {where}.{parsed.snake}_channel import {parsed.camel}Channel\n")
    typer.echo(f'  channels = {{..., "{parsed.snake}:*": {parsed.camel}Channel}}')


def _presence(
    name: Annotated[str, typer.Argument(help="Such as online.")], package: _Package = None
) -> None:
    parsed, where = _parsed("presence", name), _package(package)
    _create(module_files("presence", parsed, where))
    channel = f"{parsed.camel}Channel"
    typer.echo(
        f"Now give it to the endpoint in {where}/endpoint.py, and add a route to a socket:\n"
    )
    typer.echo(f"  from {where}.{parsed.snake} import {channel}, {parsed.snake}\n")
    typer.echo(f'  channels = {{..., "{parsed.snake}:*": {channel}}}\n')
    typer.echo(f"  endpoint = Endpoint(..., presences=[{parsed.snake}])\n")
    typer.echo('The socket must set self.assigns["user"] in connect. `ashtree gen socket user`')
    typer.echo("creates such a socket.")


def _entity(
    name: Annotated[str, typer.Argument(help="Such as auction, one process for each auction.")],
    package: _Package = None,
) -> None:
    parsed, where = _parsed("entity", name), _package(package)
    _create(module_files("entity", parsed, where))
    typer.echo(f"Now give it to the endpoint in {where}/endpoint.py:\n")
    typer.echo(f"  from {where}.{parsed.snake} import {parsed.plural}, history\n")
    typer.echo(f"  endpoint = Endpoint(..., histories=[history], children=[{parsed.plural}])\n")
    typer.echo("A channel on any node can then call it:\n")
    typer.echo(f'  state = await call({parsed.plural}.via("42"), Add(1), timeout=5)')


def _socket(
    name: Annotated[str, typer.Argument(help="Such as user, for the path /user.")],
    package: _Package = None,
) -> None:
    parsed, where = _parsed("socket", name), _package(package)
    socket = f"{parsed.camel}Socket"
    imported = f"  from {where}.{parsed.snake}_socket import {socket}\n"
    endpoint = Path(where, "endpoint.py")
    text = endpoint.read_text("utf-8") if endpoint.is_file() else ""
    # The endpoint of a new project mounts its `UserSocket` at /socket, and the new class takes its place.
    mounted = re.search(rf"""["'](/[^"']*)["']\s*:\s*(?:Mount\(\s*)?{socket}\b""", text)
    mount = mounted[1] if mounted else f"/{parsed.snake}"
    _create(module_files("socket", parsed, where, mount=mount))
    # If the module of the endpoint defines a class of this name, the class would hide the imported one. Then every
    # client could connect.
    if re.search(rf"^class {socket}\b", text, re.MULTILINE):
        typer.echo(f"{endpoint} has a class {socket}, which needs no token. Delete the class,")
        typer.echo("move its `channels` to the new class, and import the new class in its place:\n")
        typer.echo(imported)
        typer.echo(
            f"In `sockets`, write Mount({socket}, auth_token=True), and import Mount from channels.\n"
        )
    else:
        typer.echo(f"Now mount it in {where}/endpoint.py:\n")
        typer.echo(imported)
        typer.echo(
            f'  endpoint = Endpoint(sockets={{..., "{mount}": Mount({socket}, auth_token=True)}})\n'
        )
    typer.echo("Before you serve it, set a secret:\n")
    typer.echo(f"  export SECRET_KEY_BASE=$({_RANDOM_TEXT})")


def _durable(
    folder: Annotated[Path, typer.Argument(help="Such as src, where your bundler finds it.")],
) -> None:
    # Imported here, so that the other generators do not load the package for durable topics.
    from channels.durable.browser import JAVASCRIPT  # noqa: PLC0415

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(JAVASCRIPT.iterdir()):
            (folder / file.name).write_bytes(file.read_bytes())
            typer.echo(f"Wrote {folder / file.name}")
    except OSError as error:
        raise typer.BadParameter(f"cannot write {folder}: {error.strerror or error}") from None


def _wheel() -> None:
    folder = Path("vendor")
    texts = {path: path.read_text("utf-8") for path in sorted(Path().glob("requirements*.txt"))}
    naming = [path for path, text in texts.items() if _VENDORED.search(text)]
    if not naming:
        raise ChannelsError(
            f"no requirements.txt in {Path.cwd()} names a wheel vendor/ashtree-*.whl; go to a folder that "
            "`ashtree new` created"
        )
    new, data = wheel_name(), build_wheel()
    # The folder may be gone, as in a clone of a repository that ignores wheels.
    folder.mkdir(exist_ok=True)
    (folder / new).write_bytes(data)
    for path in naming:
        path.write_text(_VENDORED.sub(new, texts[path]), "utf-8")
    for old in folder.glob("ashtree-*.whl"):
        if old.name != new:
            old.unlink()
    typer.echo(f"Wrote {folder / new}, and its name into {' and '.join(map(str, naming))}.")


# The name of the wheel in a requirements file.
_VENDORED: Final = re.compile(r"(?<=vendor/)ashtree-[^/\s\[;#]+\.whl")
_COMMANDS: Final = {
    "channel": _channel,
    "presence": _presence,
    "entity": _entity,
    "socket": _socket,
}


def _parsed(kind: str, text: str) -> Name:
    name = parse_name(text)
    check_module(kind, name)
    return name


def _create(contents: dict[str, str]) -> None:
    write(Path(), contents)
    for path in contents:
        typer.echo(f"Created {path}")


def _package(given: str | None) -> str:
    """Return `given`, or the package of the project in the current folder if `given` is None.

    Raises:
        ChannelsError: no package has an `endpoint.py`, several packages have one, or `given` is not a folder here.
    """
    if given is not None:
        if not given.isidentifier() or not Path(given).is_dir():
            raise ChannelsError(f"--package {given}: there is no such folder here")
        return given
    found = sorted(path.parent.name for path in Path().glob("*/endpoint.py"))
    if len(found) == 1:
        return found[0]
    problem = (
        f"several packages here have an endpoint.py: {', '.join(found)}"
        if found
        else f"no package in {Path.cwd()} has an endpoint.py"
    )
    raise ChannelsError(
        f"{problem}; go to the folder that `ashtree new` created, or write --package PACKAGE"
    )
