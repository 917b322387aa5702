"""A server in production loads no module of the test tools, nor of the client."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.architecture.imports import imports_of
from tests.architecture.sources import PACKAGES, sources_under

MODULES = 130
"""The limit on our modules that the names of `channels` load."""

MODULES_OF_COMMANDS = 45
"""The limit on our modules that `ashtree --help` loads."""

ATTRS_CLASSES = 15
"""The limit on our attrs classes that the names of `channels` define.

attrs compiles code for each class, which takes about 0.5 ms. A `msgspec.Struct` takes 0.015 ms. `make bench-imports`
measures the whole import.
"""

ON_REQUEST = (
    "supervision.recording",
    "channels.observer",
    "channels.client",
    "channels.development",
    "channels.operations",
    "channels.recording",
    "opentelemetry",
    "prometheus_client",
    "trio_websocket",
)
"""Parts of a production server that it loads only if its configuration asks for them."""

LABORATORY = (
    "supervision.laboratory",
    "channels.laboratory",
    "channels.testing",
    "channels.pytest_plugin",
    "pytest",
    "hypothesis",
)
"""What no server in production loads."""

DOORS = (
    "supervision.chaos",
    "supervision.simulation",
    "supervision.histories",
    "supervision.story",
    "channels.cli.command",
    "channels.operations.chaos_control",
    "channels.laboratory",
)
"""The modules and packages outside the laboratory that import it.

They are the facades of the users, the commands, the control of faults in staging, and the laboratory of channels.
"""

DECLARED = """
from channels import Channel, Endpoint, Socket

class RoomChannel(Channel):
    pushes = {"moved": dict[str, int]}

class RoomSocket(Socket):
    channels = {"room:*": RoomChannel}

Endpoint(sockets={"/socket": RoomSocket}).check()
"""
"""A server that declares what its channels send. In production, Ashtree does not check it."""


def loaded_by(statement: str) -> list[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names: list[str] = json.loads(out.stdout.splitlines()[-1])
    return names


def is_part(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    "statement",
    [
        "from channels import *",
        "from channels.cli import *",
        "from actors import *; from supervision import *",
        DECLARED,
    ],
    ids=["channels", "channels.cli", "actors and supervision", "an endpoint"],
)
def test_production_code_loads_no_laboratory(statement: str) -> None:
    loaded = loaded_by(statement)
    assert [name for name in loaded if is_part(name, ON_REQUEST + LABORATORY)] == []


@pytest.mark.parametrize(
    ("statement", "reader"),
    [
        ("from channels.cli.program import recorders; recorders('run.jsonl', None)", False),
        ("import channels.observer", True),
        ("import channels.operations.metrics, channels.operations.recorded_recovery", True),
    ],
    ids=["serve --record", "the observer", "the metrics"],
)
def test_recordings_in_production_load_the_recorder_and_no_laboratory(
    statement: str, reader: bool
) -> None:
    loaded = loaded_by(statement)
    assert [name for name in loaded if is_part(name, LABORATORY)] == []
    assert "supervision.recording.flight" in loaded
    assert ("supervision.recording.reader" in loaded) is reader


def test_only_the_doors_of_the_laboratory_import_it() -> None:
    """An import inside a function counts too, because a running server may reach it."""
    inside = ("supervision.laboratory",)
    importers = {
        each.name
        for each in sources_under(*PACKAGES)
        if not is_part(each.name, inside)
        if any(is_part(found.module, inside) for found in imports_of(each))
    }
    assert sorted(name for name in importers if not is_part(name, DOORS)) == []
    assert [door for door in DOORS if not any(is_part(name, [door]) for name in importers)] == []


def test_channels_loads_few_modules_of_ours() -> None:
    ours = [
        name
        for name in loaded_by("from channels import *")
        if name.partition(".")[0] in {"actors", "supervision", "channels"}
    ]
    assert "channels.endpoint.endpoint" in ours
    assert len(ours) < MODULES, f"{len(ours)}: {ours}"


@pytest.mark.parametrize("options", [["--help"], ["serve"], ["token", "sign", "--help"]])
def test_a_command_loads_only_the_modules_that_it_needs(options: list[str]) -> None:
    """`ashtree serve` without an endpoint shows the mistake, for which it must know its options."""
    program = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules))))
sys.argv[1:] = {options}
from channels.cli.command import main
main()
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    ours = [name for name in json.loads(out.stdout.splitlines()[-1]) if is_part(name, PACKAGES)]
    serves = options == ["serve"]
    assert ("channels.endpoint.endpoint" in ours) is serves
    if options == ["--help"]:
        assert "importlib.metadata" not in out.stdout
        assert len(ours) < MODULES_OF_COMMANDS, f"{len(ours)}: {ours}"


def test_channels_defines_few_attrs_classes() -> None:
    code = """
from channels import *
import json, sys
print(json.dumps([
    f"{module}.{name}"
    for module in sys.modules if module.partition(".")[0] in ("actors", "supervision", "channels")
    for name, value in vars(sys.modules[module]).items()
    if isinstance(value, type) and value.__module__ == module and "__attrs_attrs__" in vars(value)
]))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    classes = json.loads(out.stdout)
    assert "channels.serving.mount.Mount" in classes
    assert len(classes) < ATTRS_CLASSES, f"{len(classes)}: {classes}"
