"""Generated types, checked with the TypeScript compiler and with the schema of AsyncAPI."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it has no types
import pytest

from channels.endpoint.endpoint import Endpoint
from channels.generators.asyncapi import asyncapi
from channels.generators.contract import contract_of
from channels.generators.typescript import RESERVED, typescript
from tests.architecture.snippets import COMPILED, snippets_in
from tests.architecture.sources import ROOT
from tests.channels.generators import typed_chat
from tests.integration.phoenix_js import FOLDER, require_node

MODULES = FOLDER / "node_modules"
EXAMPLES = ("auction", "chat", "document", "game", "news", "sensors", "token_chat", "vehicles")

# The compiler must refuse exactly the lines with the comment `refused`.
USE = """\
import { Presence, Socket } from "phoenix";
import type { NewMessage, OpenSocket, UserSocket } from "./typed_chat";

const socket = new Socket("/socket", { params: { token: "t" } }) as UserSocket;
socket.connect();
const id: string = "lobby";
const room = socket.channel(`room:${id}`, { name: "ann" });
socket.channel("room:`lobby`", () => ({ name: "ann", color: "red" }));
room
  .join()
  .receive("ok", (welcome) => ("users" in welcome ? welcome.users.length : 0))
  .receive("timeout", () => {});
room.on("new_msg", async (message) => {
  const whole: NewMessage = message;
  const body: string = whole.body;
});
room
  .push("new_msg", { body: "hi", mood: "good", reply_to: null, place: [1, 2], tags: { a: [1, "b"] } })
  .receive("ok", (sent) => sent.id + 1)
  .receive("error", (error) => ("limit" in error ? error.limit.toFixed() : error.problem))
  .receive("busy", () => {});
room.on("photo", (bytes) => bytes.byteLength);
room.onError(() => {});
room.leave();
new Presence(room);
socket.remove(room);
socket.channel("clock").on("tick", (tick) => tick.at);
const open = (new Socket("/open") as OpenSocket).channel("anything");
open.push("any event", { any: "payload" }).receive("any status", () => {});
open.on("any event", () => {});

room.push("new_msg", { body: 3 }); // refused
room.push("new_msg", {}); // refused
room.push("new_msg", { body: "hi", mood: "odd" }); // refused
room.push("new_msg", { body: "hi", place: [1] }); // refused
room.push("new_mgs", { body: "hi" }); // refused
room.push("new_msg", { body: "hi" }).receive("ok", (sent) => sent.number); // refused
room.push("new_msg", { body: "hi" }).receive("okay", () => {}); // refused
room.on("new_mgs", () => {}); // refused
room.on("new_msg", (message) => message.text); // refused
room.on("anything", (payload) => payload.body); // refused
room.join().receive("ok", (welcome) => welcome.names); // refused
socket.channel("rooms:1", { name: "ann" }); // refused
socket.channel("room:1", { nick: "ann" }); // refused
socket.channel("room:1"); // refused
"""


def types_of(endpoint: Endpoint) -> str:
    return typescript(contract_of(endpoint.sockets, taken=RESERVED), source="the test")


def page_files(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """Return three things of the guide: the types of its server, its excerpt of them, and its client."""
    snippets = snippets_in(COMPILED, (ROOT / COMPILED).read_text())
    server = next(each.code for each in snippets if "replies = " in each.code)
    excerpt, client, refused = (each.code for each in snippets if each.language == "typescript")
    module = ModuleType("page_of_types")
    # attrs looks up the module of a class.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(server, vars(module))  # the code of our own guide
    return types_of(module.endpoint), excerpt, f"{client}\n{refused}"


def compile_errors(folder: Path) -> set[tuple[str, int]]:
    """Return the file and the line of each error."""
    options = {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": "esnext",
        "types": [],
        "moduleResolution": "bundler",
        "lib": ["es2022", "dom"],
        "paths": {"phoenix": [str(MODULES.resolve() / "@types" / "phoenix")]},
    }
    config = {"compilerOptions": options, "include": ["**/*.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(config))
    done = subprocess.run(
        [require_node(), str(MODULES / "typescript/bin/tsc"), "--pretty", "false", "-p", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^(\S+)\((\d+),\d+\): error", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return {(name, int(line)) for name, line in found}


def test_the_compiler_accepts_right_code_and_refuses_exactly_the_wrong_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types, excerpt, client = page_files(monkeypatch)
    assert excerpt in types
    files = {
        "typed_chat.ts": types_of(typed_chat.endpoint),
        "use.ts": USE,
        "page/channels.ts": types,
        "page/client.ts": client,
    }
    for name in EXAMPLES:
        example = importlib.import_module(f"examples.{name}.server")
        files[f"{name}.ts"] = types_of(example.endpoint)
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    assert compile_errors(tmp_path) == {
        (path, number)
        for path, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if "// refused" in line
    }


def test_documents_match_the_schema_of_asyncapi() -> None:
    require_node()
    schema = json.loads((MODULES / "@asyncapi/specs/schemas/3.0.0.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    endpoints = [typed_chat.endpoint]
    endpoints += [importlib.import_module(f"examples.{each}.server").endpoint for each in EXAMPLES]
    for endpoint in endpoints:
        document: dict[str, Any] = asyncapi(
            contract_of(endpoint.sockets, taken={"Refusal"}), title="the test"
        )
        errors = [each.message for each in validator.iter_errors(json.loads(json.dumps(document)))]
        assert errors == []
    document["operations"]["wrong"] = {"action": "listen"}
    assert list(validator.iter_errors(document)) != []
