"""Every command that a document shows exists, and prints what the document shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from tests.architecture.console_checks import (
    NOT_COMPARED,
    NOT_RUN,
    PROGRAMS,
    Checker,
    kind_of,
    missing_output,
    prepare,
    uncompared,
    usage_problem,
)
from tests.architecture.consoles import Call, Line, calls_of, lines_of, make_stand_ins
from tests.architecture.programs import Programs
from tests.architecture.snippets import Snippet
from tests.architecture.sources import ROOT
from tests.architecture.test_snippets import DOCUMENTS, SNIPPETS

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in DOCUMENTS}
CONSOLES = [snippet for snippet in SNIPPETS if snippet.language == "console"]
SIMULATIONS = [one for one in CONSOLES if re.search(r"ashtree (simulate|compare)", one.code)]
LOADED = (
    *("channels.cli.command", "channels.development.page", "channels.endpoint.pages"),
    "channels.testing",
    # Typer imports the last two for each command, if pydantic is installed.
    *("channels.transports.backlog", "encodings.idna", "typer._adapters", "pydantic.type_adapter"),
)
"""Modules that nearly every command imports."""


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    with Programs(*LOADED) as programs:
        yield Checker(programs)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stand_ins(tmp_path_factory.mktemp("stand-ins"), PROGRAMS)


def calls(snippet: Snippet, folder: Path, stand_ins: Path) -> list[Call]:
    start = prepare(snippet, PAGES, folder, stand_ins)
    page = PAGES.get(snippet.place.partition(":")[0], "")
    return calls_of(page, snippet, start, stand_ins)


@pytest.mark.parametrize("snippet", CONSOLES, ids=[snippet.place for snippet in CONSOLES])
def test_the_commands_of_a_document_work(
    snippet: Snippet, checker: Checker, stand_ins: Path, tmp_path: Path
) -> None:
    found = calls(snippet, tmp_path, stand_ins)
    problems = [problem for call in found if (problem := checker.problem(call)) is not None]
    assert problems == []
    compared = {call.line for call in found if call.program in ("ashtree", "cat")}
    shown = {line for line in lines_of(snippet.code) if line.shown}
    assert shown <= compared, "only the output of `ashtree` and `cat` can be checked"


@pytest.mark.deep
@pytest.mark.parametrize("snippet", SIMULATIONS, ids=[snippet.place for snippet in SIMULATIONS])
def test_the_simulations_of_a_document_run(
    snippet: Snippet, checker: Checker, stand_ins: Path, tmp_path: Path
) -> None:
    found = [
        call
        for call in calls(snippet, tmp_path, stand_ins)
        if kind_of(call) in ("compare", "simulate")
    ]
    long = evolve(checker, long=True)
    assert [problem for call in found if (problem := long.problem(call)) is not None] == []


def test_each_command_that_does_not_run_is_in_a_document() -> None:
    lines = [line for snippet in CONSOLES for line in lines_of(snippet.code)]
    assert [
        kind for kind in NOT_RUN if not any(f"ashtree {kind}" in line.text for line in lines)
    ] == []
    shown = [line.text for line in lines if line.shown]
    for name in NOT_COMPARED:
        kind, _, option = name.partition(" ")
        assert any(f"ashtree {kind}" in text and option in text for text in shown)


# The checks themselves, on samples that break each rule


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("ashtree serv chat.endpoint:endpoint", "No such command"),
        ("ashtree serve chat.endpoint:endpoint --prot 4000", "No such option"),
        ("ashtree serve chat.endpoint:end_point", "end_point"),
        ("ashtree --version\nashtree 17", "does not print 'ashtree 17'"),
        ("ashtree simulate examples.scenarios.theatre:morning", "has no morning"),
        ("ashtree simulate examples.scenarios.theatre:evening --params ofice=1", "parameter ofice"),
        ("ashtree gen types nothing:endpoint", "nothing"),
        ("make tset", "no target tset"),
        ("make bench ARGS='--qick'", "no option --qick"),
        ("make soak MINUTE=3", "does not use MINUTE"),
        ("make test ARGS='tests/actors/test_gone.py'", "there is no tests/actors/test_gone.py"),
        ("pip install 'ashtree[reddis]'", "no extra reddis"),
        ("python -m examples.caht", "no examples.caht"),
        ("python -m examples.chat --prot 1", "no option --prot"),
        ("npm install phoenix@1.7.0", "phoenix.js"),
        ("npm install --prefix examples/news", "no package.json"),
        ("pytest tests/actors/kernel/test_link_graph.py::test_nothing", "test_nothing"),
        ("cp deploy/other.service /etc", "deploy/other.service"),
        ("cat notes.txt", "there is no such file"),
        ("curl -O https://cdn.example.org/phoenix.mjs", "another file"),
    ],
)
def test_a_wrong_command_is_found(
    command: str, problem: str, checker: Checker, stand_ins: Path, tmp_path: Path
) -> None:
    (call,) = calls(Snippet("a.md:1", "console", f"$ {command}"), tmp_path, stand_ins)
    found = checker.problem(call)
    assert found is not None
    assert problem in found


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("$ no-such-program", "no-such-program: command not found"),
        ("$ echo 'open", "unexpected EOF"),
        ("$ cd nowhere", "nowhere"),
        ("make run", "begins with 'make run'"),
    ],
)
def test_a_block_that_the_shell_refuses_is_found(
    code: str, problem: str, stand_ins: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=problem):
        calls(Snippet("a.md:1", "console", code), tmp_path, stand_ins)


def test_the_shell_reads_quotes_comments_pipes_and_continued_lines(
    stand_ins: Path, tmp_path: Path
) -> None:
    code = "$ KEY=$(python -c 'print(7)') && ashtree token sign '{\"id\": 7}' \\\n    --age $KEY | jq .  # a\nout\n"
    found = calls(Snippet("a.md:1", "console", code), tmp_path, stand_ins)
    assert sorted((call.program, call.arguments) for call in found) == [
        ("ashtree", ("token", "sign", '{"id": 7}', "--age", "7")),
        ("jq", (".",)),
    ]
    assert {call.line.shown for call in found} == {"out"}


def test_output_may_leave_out_lines_and_differ_in_ports_and_times() -> None:
    printed = "a log line\nServing on http://127.0.0.1:41234\njoined in 0.1 s\nbye"
    assert missing_output("Serving on http://127.0.0.1:4000\njoined in 3 s", printed) is None
    assert missing_output("Serv...\nb…e", printed) is None
    assert missing_output("bye\njoined in 3 s", printed) is not None


def test_a_test_tool_parses_its_own_options() -> None:
    assert usage_problem(("simulate", "a:b", "--seeds", "1-3")) is None
    assert usage_problem(("simulate", "a:b", "--seed", "1-3")) is not None


def test_an_uncompared_command_is_known_by_its_option() -> None:
    words = ("serve", "chat.endpoint:endpoint")
    plain = Call("", Line("", ""), Path(), "ashtree", words)
    assert not uncompared(plain)
    assert uncompared(Call("", Line("", ""), Path(), "ashtree", (*words, "--workers", "4")))
    assert kind_of(plain) == "serve"
