"""Documents explain every public name, and their references exist."""

import pytest

from tests.architecture.documents import (
    dead_anchors,
    links,
    loggers,
    misnamed_modules,
    missing_names,
    missing_paths,
    missing_tests,
    prose,
)
from tests.architecture.sources import ROOT, report, sources_under

DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
}


def read(path: str) -> str | None:
    file = ROOT / path
    return file.read_text() if file.is_file() else None


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_link_leads_somewhere(path: str) -> None:
    report(
        [f"{to} is not there" for to in links(path, DOCUMENTS[path]) if not (ROOT / to).exists()]
    )


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_link_to_a_part_of_a_page_leads_to_that_part(path: str) -> None:
    report(dead_anchors(path, DOCUMENTS[path], read))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_link_to_a_module_shows_the_name_of_the_module(path: str) -> None:
    report(misnamed_modules(path, DOCUMENTS[path]))


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path != "CHANGELOG.md"])
def test_every_module_that_a_document_names_exists(path: str) -> None:
    report(missing_paths(path, DOCUMENTS[path], lambda named: (ROOT / named).exists()))


def test_every_module_and_name_in_a_document_or_a_docstring_exists() -> None:
    sources = sources_under("actors", "supervision", "channels", "examples")
    known = {name for each in sources for name in loggers(each.text)}
    texts = {path: prose(text) for path, text in DOCUMENTS.items() if path != "CHANGELOG.md"}
    texts |= {each.path: each.text for each in sources}
    report([line for path, text in texts.items() for line in missing_names(path, text, known)])


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.startswith("docs/")])
def test_every_test_that_a_document_names_exists(path: str) -> None:
    report(missing_tests(path, DOCUMENTS[path], read))


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, waiting = set[str](), ["docs/index.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached and path in DOCUMENTS:
            reached.add(path)
            waiting += links(path, DOCUMENTS[path])
    report(
        [
            f"nothing leads from docs/index.md to {path}; add a link there"
            for path in DOCUMENTS
            if path.startswith("docs/") and path not in reached
        ]
    )


# The checks themselves, on samples that break each rule.


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("[a](there.md#part), [b](https://example.org/x.md), [c](#here)", ["docs/there.md"]),
        ("[a](../README.md) and [b](topics/c.md)", ["README.md", "docs/topics/c.md"]),
        ('<img src="images/a.svg"> <a href="./b.md">', ["docs/images/a.svg", "docs/b.md"]),
        ("```text\n[a](gone.md)\n```", []),
    ],
)
def test_links_are_found_wherever_they_stand(text: str, targets: list[str]) -> None:
    assert links("docs/a.md", text) == targets


@pytest.mark.parametrize(
    ("target", "there"),
    [
        ("#here", True),
        ("#there", False),
        ("b.md#part-one_two", True),
        ("b.md#part", False),
        ("b.md#a-link", True),
        ("b.md#actors.process", True),
        ("b.md#actors.process.spawn", True),
        ("b.md#actors", False),
        ("b.md#by-hand", True),
        # The anchor is `a-b` in the site, and `a---b` in the repository.
        ("b.md#a-b", False),
        ("b.md#a---b", False),
        ("c.py#L1", True),
        ("https://example.org/x#y", True),
    ],
)
def test_a_link_to_a_part_that_is_not_there_is_found(target: str, there: bool) -> None:
    page = (
        '# Part `one_two`\n## A [link](x.md)\n### A - b\n::: actors.process\n<a id="by-hand"></a>'
    )
    problems = dead_anchors("docs/a.md", f"# Here\n[a]({target})", {"docs/b.md": page}.get)
    assert (problems == []) is there


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("`actors`, `actors.links`, `actors.links.link(pid)` and `channels.Channel.push`", 0),
        ("`actors.names`", 1),
        ("`supervision.partitions.partition_supervisor`", 1),
        ("`channels.Channel.pusch(event)`", 1),
        ("actors.names without a code span, `actors/names.py` and `channels.example.org/x`", 0),
    ],
)
def test_a_module_or_a_name_that_does_not_exist_is_found(text: str, problems: int) -> None:
    assert len(missing_names("docs/a.md", text)) == problems


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("`tests/a/test_b.py::test_c` and `tests/a/test_b.py`", 0),
        ("`tests/a/test_b.py::test_d`", 1),
        ("`tests/a/test_x.py::test_c`", 1),
    ],
)
def test_a_test_that_does_not_exist_is_found(text: str, problems: int) -> None:
    files = {"tests/a/test_b.py": "class T:\n    async def test_c(self): ...\n"}
    assert len(missing_tests("docs/a.md", text, files.get)) == problems
