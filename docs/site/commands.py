"""Write docs/reference/command-line.md from the definitions of the commands.

Run it after you have changed a command: `python -m docs.site.commands`. A test compares the page with the commands.
"""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from channels.cli.command import APPS

PAGE = Path(__file__).parents[1] / "reference" / "command-line.md"

HEAD = """\
# Command line

This page lists all commands and options of `ashtree`, as `ashtree COMMAND --help` shows them in the terminal. \
The exit code is 0 after success, 1 after a failure, 2 after wrong input, and 130 after Ctrl-C during the import of \
your module. `simulate` has [further exit codes](simulation.md#ashtree-simulate). Most options of `ashtree serve` \
have an [environment variable](endpoint.md#environment-variables), such as `ASHTREE_LOG_LEVEL` for `--log-level`, \
which the option overrides.
"""

# Commands that share options with an earlier command. The page describes a shared option only there.
SHARING = {
    "ashtree token verify": "ashtree token sign",
    "ashtree gen presence": "ashtree gen channel",
    "ashtree gen entity": "ashtree gen channel",
    "ashtree gen socket": "ashtree gen channel",
    "ashtree compare": "ashtree simulate",
    "ashtree chaos": "ashtree simulate",
}

GUIDES = {
    "ashtree serve": "[Serve your endpoint](../howto/serve-your-endpoint.md)",
    "ashtree workers": "[Run several workers](../howto/serve-your-endpoint.md#run-several-workers)",
    "ashtree connect": "[Connect from Python](../howto/connect-from-python.md)",
    "ashtree broadcast": "[Publish from outside](../howto/publish-from-outside.md)",
    "ashtree new": "[Start a project](../howto/start-a-project.md)",
    "ashtree gen entity": "[Run processes of your own](../howto/run-processes-of-your-own.md)",
    "ashtree gen types": "[Types for clients](../howto/start-a-project.md#types-for-clients)",
    "ashtree token sign": "[Token](token.md)",
    "ashtree story": "[Record a program](../howto/record-and-tell.md)",
    "ashtree simulate": "[the simulation commands](simulation.md#commands)",
    "ashtree replay": "[Explain a failure and prevent it](../howto/replay-a-failure.md)",
    "ashtree compare": "[Compare two policies](../howto/chaos-in-staging.md#compare-two-policies)",
    "ashtree chaos": "[Run chaos in staging](../howto/chaos-in-staging.md)",
}


def page() -> str:
    """Return the page."""
    sections = [section for make in APPS for section in _sections(make())]
    return "\n".join([HEAD, *sections]).rstrip() + "\n"


def _sections(app: typer.Typer) -> Iterator[str]:
    options: dict[str, list[str]] = {}
    for name, command in _commands("ashtree", get_command(app)):
        options[name] = [_line(each) for each in command.params if each.param_type_name == "option"]
        other = SHARING.get(name, "")
        yield _section(name, command, options[name], other, options.get(other, []))


def _commands(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    context = group.make_context(name, [], resilient_parsing=True)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        if hasattr(command, "list_commands"):
            yield from _commands(f"{name} {each}", command)
        else:
            yield f"{name} {each}", command


def _section(
    name: str, command: Any, options: list[str], other: str, options_of_other: list[str]
) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    guide = f"\n\nSee {GUIDES[name]}." if name in GUIDES else ""
    lines = [f"## {name}", "", _paragraphs(command.help) + guide, ""]
    lines += [f"- `{_name(each)}`: {_text(each.help)}" for each in arguments]
    lines += [each for each in options if each not in options_of_other]
    shared = [each[2 : each.index("`: ") + 1] for each in options if each in options_of_other]
    if shared:
        lines.append(f"- {', '.join(shared)}: As in `{other}`.")
    return "\n".join(lines).rstrip() + "\n"


def _paragraphs(help_text: str) -> str:
    found = []
    for paragraph in help_text.replace("\b", "").split("\n\n"):
        text = " ".join(paragraph.split())
        found.append(f"```text\n{text}\n```" if text.startswith("$ ") else text)
    return "\n\n".join(found)


def _line(option: Any) -> str:
    metavar = "" if option.is_flag else f" {option.metavar or _kind(option)}"
    names = ", ".join(f"`{each}{metavar}`" for each in [*option.opts, *option.secondary_opts])
    choices = _choices(option)
    one_of = f" One of {', '.join(choices)}." if choices else ""
    return f"- {names}: {_text(option.help)}{one_of}{_default(option)}"


def _name(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper())
    return name if argument.required else f"[{name}]"


def _kind(option: Any) -> str:
    if _choices(option):
        return str(option.name.rpartition("_")[2].upper())
    kind = getattr(option.type_descriptor.annotation, "__name__", "")
    return {"int": "NUMBER", "float": "NUMBER", "Path": "PATH"}.get(kind, "TEXT")


def _choices(option: Any) -> list[str]:
    annotation = option.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(each.value) for each in annotation]
    return []


def _default(option: Any) -> str:
    value = option.default
    if option.required:
        return " Required."
    if value is None or value is False or value in ((), [], ""):
        return ""
    if value is True:
        value = option.opts[0]
    if isinstance(value, Enum):
        value = value.value
    return f" Default: `{option.show_default if isinstance(option.show_default, str) else value}`."


def _text(help_text: str | None) -> str:
    return " ".join((help_text or "").split())


if __name__ == "__main__":
    PAGE.write_text(page())
