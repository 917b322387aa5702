"""The checks of the programs in console blocks.

The checks run a command of `ashtree`, and compare its output with the output that the document shows. They do not run a
command in `NOT_RUN`, but only parse its options. They do not compare the output of a command in `NOT_COMPARED`. Both
tables give a reason for each command. For other programs, the checks compare the arguments with the files and names
that exist.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
import typer
from attrs import evolve, frozen
from typer.core import TyperGroup
from typer.exceptions import TyperException

from channels.cli import command
from channels.cli.console import new_app
from channels.generators.files import PHOENIX_VERSION, project_files
from channels.generators.names import parse_name
from channels.laboratory.live_network import LiveNetwork
from supervision.laboratory.chaos.commands import add_chaos_command
from supervision.laboratory.simulation.tools.commands import add_simulation_commands
from supervision.laboratory.story.commands import add_story_command
from tests.architecture.consoles import Call
from tests.architecture.programs import Done, Programs
from tests.architecture.snippets import Snippet, module_of, snippets_in
from tests.architecture.sources import ROOT
from tests.patience import PATIENCE

NOT_RUN = {
    "broadcast": "it needs a Redis server; tests/integration/test_publishing.py runs it",
    "chaos": "it takes seconds of real time; tests/supervision/laboratory/chaos/live runs it",
    "connect": "it needs a server; tests/integration/test_connect_command.py runs it",
    "compare": "it takes seconds; tests/simulation runs such commands, and make test-deep also runs this one",
    "replay": "it needs a failure; docs/howto/replay-a-failure.md makes one in Python",
    "simulate": "as compare",
    "story": "it needs a recording; tests/supervision/laboratory/story runs it",
    "workers": "it needs a server; tests/integration/test_workers.py runs it",
}
NOT_COMPARED = {
    "connect": "as above",
    "workers": "as above",
    "serve --workers": "the workers would take seconds to start; tests/integration/test_workers.py starts them",
}
TARGETS = ("chaos", "compare", "simulate")
"""Commands whose scenario and parameters must exist. The checks look them up without running the command."""

# Markers for text that a document leaves out, or that the reader fills in.
_ELLIPSIS = re.compile(r"\.\.\.|…|\bFILE\b|\bMODULE:")
# Output that differs from run to run. `_steady` replaces it in the shown and in the printed output.
_VARIES = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\btoken=[\w-]+"), "token=TOKEN"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "SECONDS s"),
)

_ASHTREE = """
import os, signal, sys

class Output:
    '''Standard output. When the server announces its address, it gets the signal of Ctrl-C.'''
    def __init__(self, stream):
        self._stream = stream
    def __getattr__(self, name):
        return getattr(self._stream, name)
    def write(self, text):
        written = self._stream.write(text)
        if "Serving on" in text:
            os.kill(os.getpid(), signal.SIGINT)
        return written

os.environ.setdefault("SECRET_KEY_BASE", "a secret of the tests, of 32 characters or more")
sys.stdout = Output(sys.stdout)
sys.argv = ["ashtree", *{arguments!r}]
from channels.cli.command import main
try:
    main()
except SystemExit as end:
    sys.stdout.flush()
    sys.stderr.flush()
    # A normal exit of the interpreter would take longer than most commands.
    os._exit(end.code)
"""


@cache
def _project(name: str) -> Mapping[str, str]:
    # The server of a new project stays for five seconds after Ctrl-C, so that proxies notice. The tests need not wait.
    return {
        path: text.replace("Draining(notice=5.0)", "Draining()")
        for path, text in project_files(parse_name(name)).items()
    }


def prepare(snippet: Snippet, pages: Mapping[str, str], folder: Path, stand_ins: Path) -> Path:
    """Create the files that the reader of a page has, in an empty folder. Return the folder where the block begins.

    The files are a project of `ashtree new chat`, and the modules that the block names. For example, a block may have
    the command `ashtree serve gate:endpoint`. Then `gate.py` gets the last Python block of the page that defines
    `endpoint`. If the page has no such block, `module_source` searches other pages. If the module serves a folder, this
    function creates the folder without files. If the block itself creates a project, it begins outside the project.

    Args:
        snippet: the block.
        pages: the texts of all pages, by path.
        folder: an empty folder.
        stand_ins: the folder with the scripts that replace programs. The virtual environments get these scripts too.
    """
    created = re.findall(r"^\$ ashtree new (\w+)$", snippet.code, re.MULTILINE)
    for name in created or ["chat"]:
        for path, text in _project(name).items():
            file = folder / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    start = folder if created else folder / "chat"
    if not created:
        (start / "chat/server.py").write_text("from chat.endpoint import endpoint as endpoint\n")
        for module, name in set(re.findall(r"(?<![\w.])([a-z_]+):([a-z_]+)\b", snippet.code)):
            source = module_source(module, name, snippet.place.partition(":")[0], pages)
            if source is not None:
                for served in re.findall(r"Path\(__file__\)\.parent / '(\w+)'", source):
                    (start / served).mkdir(exist_ok=True)
                # A package of that name would hide the module.
                shutil.rmtree(start / module, ignore_errors=True)
                (start / f"{module}.py").write_text(source)
    phoenix = ROOT / "tests/integration/node/node_modules/phoenix"
    if phoenix.is_dir():
        (start / "node_modules").mkdir()
        (start / "node_modules/phoenix").symlink_to(phoenix)
    for each in {start, folder / (created or ["chat"])[0]}:
        (each / ".venv").mkdir()
        (each / ".venv/bin").symlink_to(stand_ins)
    return start


def module_source(module: str, name: str, page: str, pages: Mapping[str, str]) -> str | None:
    """Return the source of a module that the reader of a page has saved. The module must define `name`.

    The source comes from this page, or from a page of the same folder that names the file of the module. None if these
    pages do not show the module.
    """
    folder = page.rpartition("/")[0]
    others = [
        path
        for path, text in pages.items()
        if path.rpartition("/")[0] == folder and f"`{module}.py`" in text
    ]
    for path in [page, *others]:
        blocks = [
            one.code for one in snippets_in(path, pages.get(path, "")) if one.language == "python"
        ]
        for code in reversed(blocks):
            if (source := module_of(code, name)) is not None:
                return source
    return None


@frozen
class Checker:
    """The checks of all blocks.

    Attributes:
        programs: the process that runs `ashtree`.
        long: True to run simulations too, with one seed.
    """

    programs: Programs
    long: bool = False

    def problem(self, call: Call) -> str | None:
        """Return the problem of a program that a block starts; None if there is no problem."""
        if call.program == "ashtree":
            return self._ashtree(call)
        return CHECKS[call.program](call)

    def _ashtree(self, call: Call) -> str | None:
        kind = kind_of(call)
        wrong = usage_problem(call.arguments)
        if wrong is not None:
            return f"{call}: {wrong}"
        if _ELLIPSIS.search(str(call)):
            return None
        if kind in TARGETS and (problem := scenario_problem(call)) is not None:
            return problem
        # `prepare` has created the project of `ashtree new`, because later commands of the block need its folder.
        if kind == "new" or (
            kind in NOT_RUN and not (self.long and kind in ("compare", "simulate"))
        ):
            return None
        done = self._run(evolve(call, arguments=tuple(_cheaper(kind, call.arguments))))
        if done.code != 0:
            return f"{call} ended with {done.code}:\n{done.stdout}{done.stderr}"
        if uncompared(call) or not call.line.shown:
            return None
        return missing_output(call.line.shown, done.stdout + done.stderr)

    def _run(self, call: Call) -> Done:
        file = call.folder / "run_ashtree.py"
        file.write_text(_ASHTREE.replace("{arguments!r}", repr(list(call.arguments))))
        return self.programs.run(file, cwd=call.folder, time_limit=PATIENCE)


def kind_of(call: Call) -> str:
    """Return the subcommand, or the first option if there is none."""
    return call.arguments[0] if call.arguments else ""


def uncompared(call: Call) -> bool:
    """Return True if `NOT_COMPARED` lists the command."""
    kind = kind_of(call)
    return kind in NOT_COMPARED or (
        "--workers" in call.arguments and f"{kind} --workers" in NOT_COMPARED
    )


def scenario_problem(call: Call) -> str | None:
    """Return a problem if the scenario of a command does not exist, or lacks a parameter that the command sets."""
    target = next(word for word in call.arguments[1:] if re.fullmatch(r"[\w.]+:\w+", word))
    module, _, name = target.partition(":")
    saved = call.folder / f"{module}.py"
    if saved.is_file():
        source = saved.read_text()
        found = module_of(source, name) is not None
    else:
        loaded = importlib.import_module(module)
        source, found = inspect.getsource(loaded), hasattr(loaded, name)
    if not found:
        return f"{call}: {module} has no {name}"
    # A scenario may take its parameters as arguments or from `world.params`.
    known = re.findall(r"\w+", source)
    named = re.findall(r"(?:--params |--policy [^:]*: ?)(\w+)=", str(call))
    gone = [each for each in named if each not in known]
    return f"{call}: the scenario has no parameter {gone[0]}" if gone else None


def missing_output(shown: str, printed: str) -> str | None:
    """Return a line that a document shows and a program does not print; None if there is none.

    The lines come in the same order, but the program may print more lines. An ellipsis stands for any text.
    """
    lines = iter(_steady(printed).splitlines())
    for line in _steady(shown).splitlines():
        pattern = ".*".join(map(re.escape, re.split(r"\.\.\.|…", line.strip())))
        if not any(re.fullmatch(pattern, each.strip()) for each in lines):
            return f"the program does not print {line!r}, but:\n{printed}"
    return None


def _steady(text: str) -> str:
    for pattern, replacement in _VARIES:
        text = pattern.sub(replacement, text)
    return text


def _cheaper(kind: str, arguments: tuple[str, ...]) -> Iterator[str]:
    """Return the arguments with one seed instead of many, and without worker processes."""
    words = iter(arguments)
    for word in words:
        if word in ("--workers", "--seeds"):
            next(words)
        elif word != "--reload":
            yield word
    if kind == "serve":
        yield from ("--port", "0")
    elif kind in ("simulate", "compare"):
        yield from ("--seeds", "1", "--jobs", "0")


@cache
def _applications() -> Mapping[str, TyperGroup]:
    """Return the command `ashtree`, under "main", and the app of its test commands, under the name of each command."""
    built: list[typer.Typer] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "run_app", built.append)
        command.main()
    tools = new_app()
    add_story_command(tools)
    add_simulation_commands(tools)
    add_chaos_command(tools, LiveNetwork)
    main, test = (typer.main.get_command(app) for app in (*built, tools))
    assert isinstance(main, TyperGroup)
    assert isinstance(test, TyperGroup)
    return {"main": main, **dict.fromkeys(test.commands, test)}


def usage_problem(arguments: tuple[str, ...]) -> str | None:
    """Parse arguments of `ashtree` without running the command. Return the error message; None without an error."""
    applications = _applications()
    group = applications.get(arguments[0] if arguments else "", applications["main"])
    context = None
    words = list(arguments)
    try:
        while True:
            context = group.make_context("ashtree", words, parent=context)
            _, found, words = group.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            assert found is not None
            if not isinstance(found, TyperGroup):
                found.make_context("ashtree", words, parent=context)
                return None
            group = found
    except typer.Exit:
        return None
    except TyperException as error:
        return str(getattr(error, "format_message", error.__str__)())


# Other programs.


def _pip(call: Call) -> str | None:
    known = _extras(ROOT / "pyproject.toml") | _extras(call.folder / "pyproject.toml")
    for word in call.arguments[1:]:
        named = re.fullmatch(r"(?:ashtree|\.|[\w./-]+\.whl)\[([\w,]+)\]", word)
        for extra in named[1].split(",") if named else ():
            if extra not in known:
                return f"{call}: there is no extra {extra}"
    return None


def _extras(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    return set(tomllib.loads(file.read_text())["project"].get("optional-dependencies", ()))


def _python(call: Call) -> str | None:
    if call.arguments[:1] != ("-m",):
        script = next((word for word in call.arguments if word.endswith(".py")), None)
        known = script and ((ROOT / script).is_file() or f"`{script}`" in call.page)
        return None if known or not script else f"{call}: the page does not name {script}"
    module, options = call.arguments[1], call.arguments[2:]
    if module == "cProfile":
        return _python(evolve(call, arguments=call.arguments[call.arguments.index("-m", 1) :]))
    return _module_problem(str(call), module, options)


def _module_problem(what: str, module: str, options: tuple[str, ...]) -> str | None:
    folder = ROOT.joinpath(*module.split("."))
    if module.partition(".")[0] not in ("examples", "tests"):
        return None if importlib.util.find_spec(module) else f"{what}: there is no {module}"
    files = [*folder.rglob("*.py")]
    if folder.with_suffix(".py").is_file():
        files += folder.parent.glob("*.py")
    if not files:
        return f"{what}: there is no {module}"
    files.append(ROOT / "channels/cli/serve.py")
    text = "".join(file.read_text() for file in files)
    for option in options:
        name = option.partition("=")[0]
        # Typer names the option `--log-level` after the parameter `log_level`.
        written = (f'"{name}"', f"{name[2:].replace('-', '_')}: ")
        if name.startswith("--") and not any(form in text for form in written):
            return f"{what}: {module} has no option {name}"
    return None


def _make(call: Call) -> str | None:
    makefile = (ROOT / "Makefile").read_text()
    settings = dict(word.split("=", 1) for word in call.arguments if re.match(r"[A-Z_]+=", word))
    targets = [word for word in call.arguments if not re.match(r"[A-Z_]+=", word)]
    for target in targets:
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", makefile, re.MULTILINE)
        if recipe is None:
            return f"{call}: there is no target {target}"
        module = re.search(r"python -m (tests\.\S+)", recipe[1])
        if module and "ARGS" in settings:
            options = tuple(shlex.split(settings["ARGS"]))
            if problem := _module_problem(str(call), module[1], options):
                return problem
        elif target == "test" and (problem := _pytest_problem(call, settings.get("ARGS", ""))):
            return problem
    unused = [
        name
        for name in settings
        if not re.search(rf"\$\([a-z ]*{name}\)|^{name} \?=", makefile, re.MULTILINE)
    ]
    return f"{call}: the Makefile does not use {unused[0]}" if unused else None


def _pytest(call: Call) -> str | None:
    return _pytest_problem(call, shlex.join(call.arguments))


def _pytest_problem(call: Call, arguments: str) -> str | None:
    for word in shlex.split(arguments):
        path, _, test = word.partition("::")
        if not path.startswith("tests"):
            continue
        found = next((base / path for base in (ROOT, call.folder) if (base / path).exists()), None)
        if found is None or (test and f"def {test}(" not in found.read_text()):
            return f"{call}: there is no {word}"
    return None


def _npm(call: Call) -> str | None:
    words = call.arguments
    for word in words:
        name, _, version = word.partition("@")
        if name == "phoenix" and version not in ("", PHOENIX_VERSION):
            return f"{call}: the projects of `ashtree new` have phoenix.js {PHOENIX_VERSION}"
    folder = call.folder
    if "--prefix" in words:
        folder = ROOT / words[words.index("--prefix") + 1]
    if [word for word in words if not word.startswith("-")][1:] and "--prefix" not in words:
        return None
    if not (folder / "package.json").is_file():
        return f"{call}: there is no package.json in {folder}"
    if (
        words[0] == "run"
        and words[1] not in json.loads((folder / "package.json").read_text())["scripts"]
    ):
        return f"{call}: package.json has no script {words[1]}"
    return None


def _curl(call: Call) -> str | None:
    page = _project("chat")["chat/static/app.js"]
    for word in call.arguments:
        if word.startswith("https://cdn.") and word not in page:
            return f"{call}: the projects of `ashtree new` load another file"
    return None


def _docker(call: Call) -> str | None:
    if call.arguments[0] == "build" and not (call.folder / "Dockerfile").is_file():
        return f"{call}: there is no Dockerfile"
    return None


def _cat(call: Call) -> str | None:
    """Check `cat`. If the block shows the contents, the reader has written the file. Otherwise, the file must exist."""
    if call.line.shown and call.arguments[0].endswith(".json"):
        json.loads(call.line.shown)
    elif not call.line.shown and not (call.folder / call.arguments[0]).is_file():
        return f"{call}: there is no such file, and the block does not show it"
    return None


def _copy(call: Call) -> str | None:
    sources = [word for word in call.arguments if not word.startswith("-")][:-1]
    gone = [word for word in sources if not (call.folder / word).exists()]
    return f"{call}: there is no {gone[0]} in a new project" if gone else None


def _hypercorn(call: Call) -> str | None:
    module, _, name = call.arguments[-1].partition(":")
    known = hasattr(importlib.import_module(module), name)
    return None if known else f"{call}: {module} has no {name}"


def _known(call: Call) -> None:
    """Accept a program of another project. Its arguments name nothing of Ashtree."""


CHECKS: Mapping[str, Callable[[Call], str | None]] = {
    **dict.fromkeys(("pip", "pip3"), _pip),
    **dict.fromkeys(("python", "python3"), _python),
    "cat": _cat,
    **dict.fromkeys(("cp", "mv"), _copy),
    "curl": _curl,
    "docker": _docker,
    "hypercorn": _hypercorn,
    "make": _make,
    "npm": _npm,
    "pytest": _pytest,
    **dict.fromkeys(
        (
            *(
                "chaos",
                "git",
                "grep",
                "jq",
                "journalctl",
                "kill",
                "mkdir",
                "mypy",
                "npx",
                "openssl",
            ),
            *("py-spy", "redis-cli", "ruff", "sudo", "systemctl", "touch", "useradd", "valkey-cli"),
        ),
        _known,
    ),
}
PROGRAMS = ("ashtree", *CHECKS)
