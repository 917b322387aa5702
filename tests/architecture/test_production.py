"""A server in production loads no module of the test tools, nor of the client."""

import json
import subprocess
import sys

import pytest

MODULES = 140
"""The limit on our modules that `import channels` loads."""

ATTRS_CLASSES = 25
"""The limit on our attrs classes that `import channels` defines.

attrs compiles code for each class, which takes about 0.5 ms. A `msgspec.Struct` takes 0.015 ms. `make bench-imports`
measures the whole import.
"""

LABORATORY = (
    "supervision.chaos",
    "supervision.simulation",
    "supervision.recording",
    "supervision.observer",
    "supervision.viewer",
    "channels.observer",
    "channels.client",
    "channels.development",
    "channels.laboratory",
    "channels.testing",
    "channels.pytest_plugin",
    "channels.operations",
    "opentelemetry",
    "prometheus_client",
    "trio_websocket",
    "pytest",
    "hypothesis",
)

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


@pytest.mark.parametrize(
    "statement",
    ["import channels", "import channels.cli", "import actors, supervision", DECLARED],
    ids=["channels", "channels.cli", "actors and supervision", "an endpoint"],
)
def test_production_code_loads_no_laboratory(statement: str) -> None:
    assert [
        name
        for name in loaded_by(statement)
        if any(name == lab or name.startswith(f"{lab}.") for lab in LABORATORY)
    ] == []


def test_channels_loads_few_modules_of_ours() -> None:
    ours = [
        name
        for name in loaded_by("import channels")
        if name.partition(".")[0] in {"actors", "supervision", "channels"}
    ]
    assert len(ours) < MODULES, f"{len(ours)}: {ours}"


def test_channels_defines_few_attrs_classes() -> None:
    code = """
import channels, json, sys
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
