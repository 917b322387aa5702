"""Facts that a page repeats from another file are correct."""

from __future__ import annotations

import re

import pytest

from channels.generators.files import project_files
from channels.generators.names import parse_name
from tests.architecture.snippets import snippets_in
from tests.architecture.sources import ROOT
from tests.clients.clients import CLIENTS

DEPLOY = "docs/howto/deploy.md"
WHY = "docs/why.md"
CLIENTS_PAGE = "docs/reference/clients.md"
INTEGRATION = "tests/integration"
PERFORMANCE = "docs/topics/performance.md"
CHAT = "examples/chat/static/chat.css"
TOOLS = [
    "channels/development/static/page.css",
    "channels/observer/static/page.css",
    "supervision/recording/reader/page_files/page.css",
]

_SHARED = re.compile(r"^ +(--[\w-]+|font): (.+);$", re.MULTILINE)
_FIGURE = re.compile(r"\b\d\.\d\d\b|\d[\d,.]* (?:µs|ms|KB|MB|times)")


def read(path: str) -> str:
    return (ROOT / path).read_text()


def is_in_order(lines: list[str], text: str) -> bool:
    """Return True if a text has these lines in this order. Other lines may stand between them."""
    rest = iter(text.splitlines())
    return all(line in rest for line in lines)


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/chat.service"])
def test_the_page_about_deployment_shows_the_generated_files(path: str) -> None:
    (shown,) = [
        block.code.splitlines()[1:]
        for block in snippets_in(DEPLOY, read(DEPLOY))
        if block.code.startswith(f"# {path}\n")
    ]
    assert len(shown) > 10
    assert is_in_order([line for line in shown if line], project_files(parse_name("chat"))[path])


def test_the_page_why_takes_its_figures_from_the_page_about_performance() -> None:
    figures = {figure.partition(" ")[0] for figure in _FIGURE.findall(read(WHY))}
    measured = set(re.findall(r"\d[\d,.]*\d|\d", read(PERFORMANCE)))
    assert figures
    assert figures <= measured, f"{PERFORMANCE} does not have {sorted(figures - measured)}"


def test_the_page_about_clients_has_a_row_for_each_client_that_is_driven() -> None:
    _, _, rest = read(CLIENTS_PAGE).partition("| client | version | wire | steps | result |\n")
    table, _, _ = rest.partition("\n\n")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    driven = [[each.name, each.version, each.wire[0], ", ".join(each.steps)] for each in CLIENTS]
    assert [row[:4] for row in rows] == driven
    assert {len(row) for row in rows} == {5}


def test_the_page_about_clients_names_the_tested_versions_of_supabase_s_clients() -> None:
    (realtime_js,) = re.findall(
        r'"@supabase/realtime-js": "(.+)"', read(f"{INTEGRATION}/node/package.json")
    )
    (realtime,) = re.findall(r'"realtime==(.+)"', read(f"{INTEGRATION}/test_supabase_clients.py"))
    assert f"| @supabase/realtime-js | {realtime_js} |" in read(CLIENTS_PAGE)
    assert f"| realtime | {realtime} |" in read(CLIENTS_PAGE)


def style(path: str) -> dict[str, str]:
    """Return the colours and fonts of a page: the custom properties and the font of its first rule."""
    first, _, _ = read(path).partition("}")
    return dict(_SHARED.findall(first))


@pytest.mark.parametrize("path", TOOLS)
def test_the_pages_of_the_tools_have_the_colours_and_fonts_of_the_chat(path: str) -> None:
    chat, page = style(CHAT), style(path)
    assert {"--paper", "--card", "--ink", "--leaf", "--ember", "--mono", "--radius", "font"} <= set(
        page
    )
    assert page.items() <= chat.items()


def test_lines_in_another_order_are_found() -> None:
    assert is_in_order(["a", "c"], "a\nb\nc")
    assert not is_in_order(["c", "a"], "a\nb\nc")
