"""The site of the documentation: its navigation, the preparation of its pages, and the whole build."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from docs.site import contents
from docs.site.build import described, main, prepared, source_page
from docs.site.commands import PAGE, page
from docs.site.recordings import RECORDINGS, recorded
from docs.site.search import SYNONYMS, Part, in_order
from docs.site.signatures import REFERENCE, loaded, with_signatures, without_signatures
from tests.architecture.sources import PACKAGES, ROOT, report

NAVIGATION = tomllib.loads((ROOT / "docs/site/zensical.toml").read_text())["project"]["nav"]


def pages_of(entry: object) -> Iterator[str]:
    """Yield the pages of a part of the navigation."""
    match entry:
        case str():
            yield entry
        case dict():
            for part in entry.values():
                yield from pages_of(part)
        case list():
            for part in entry:
                yield from pages_of(part)


def test_every_page_is_in_the_navigation_once() -> None:
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    listed = list(pages_of(NAVIGATION))
    assert len(listed) == len(set(listed))
    report(
        [f"docs/{page} is not in docs/site/zensical.toml" for page in pages if page not in listed]
    )
    report(
        [f"docs/{page} is in docs/site/zensical.toml only" for page in listed if page not in pages]
    )


def test_a_link_to_a_source_leads_to_a_page_that_shows_it() -> None:
    text, shown = prepared("topics/a.md", "[b](../../actors/refs.py#L3), [c](d.md#e)", str)
    assert text == "[b](../source/actors/refs.py.md#L3), [c](d.md#e)"
    assert shown == {"actors/refs.py"}


@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("../../README.md", "../index.md"),
        ("../../CHANGELOG.md", "../project/changelog.md"),
        ("../images/crash.svg", "../images/crash.svg"),
        ("https://example.org/a", "https://example.org/a"),
        ("#part", "#part"),
    ],
)
def test_links_to_pages_of_the_site_stay(target: str, page: str) -> None:
    assert prepared("topics/a.md", f"[b]({target})", str) == (f"[b]({page})", set())


def test_code_stays_as_it_is() -> None:
    text = "```text\n[b](../../actors/refs.py)\n```\n"
    assert prepared("topics/a.md", text, str) == (text, set())


def test_an_included_file_keeps_its_links() -> None:
    files = {"CHANGELOG.md": "# Changes\n[a](docs/topics/a.md) [b](Makefile)"}
    text, shown = prepared("project/c.md", '--8<-- "CHANGELOG.md"\n', files.__getitem__)
    assert text == "# Changes\n[a](../topics/a.md) [b](../source/Makefile.md)\n"
    assert shown == {"Makefile"}


def test_the_pages_of_the_study_play_each_recording_once() -> None:
    pages = [path.read_text() for path in (ROOT / "docs/study").glob("*.md")]
    played = [name for text in pages for name in re.findall(r"<!-- recording: (\S+) -->", text)]
    assert sorted(played) == sorted(RECORDINGS)


def test_a_recording_becomes_a_frame_that_plays_it() -> None:
    text, _ = prepared("study/a.md", "<!-- recording: three-strategies -->\n", str)
    assert '<iframe class="recording" src="recordings/three-strategies.html"' in text


def test_a_recording_shows_the_run_of_its_experiment() -> None:
    page = recorded("three-strategies")
    assert "The database crashes under rest_for_one" in page
    assert "the disk is full" in page


def test_a_source_with_fences_is_shown_whole() -> None:
    assert source_page("a.md", "```text\nx\n```\n").endswith("````text\n```text\nx\n```\n````\n")


@pytest.mark.deep
def test_the_site_builds_without_a_warning() -> None:
    assert main() == 0


def test_the_page_of_the_command_line_shows_the_commands_as_they_are() -> None:
    assert PAGE.read_text() == page(), "run `python -m docs.site.commands`"


def test_every_code_span_of_the_page_of_the_command_line_is_closed() -> None:
    report([line for line in page().splitlines() if line.count("`") % 2 and line[:3] != "```"])


def test_the_list_of_all_pages_is_the_navigation() -> None:
    assert contents.PAGE.read_text() == contents.page(), "run `python -m docs.site.contents`"


@pytest.fixture(scope="module", name="packages")
def load_packages() -> Any:
    return loaded()


def test_the_reference_pages_show_the_signatures_as_they_are(packages: Any) -> None:
    pages = {path.name: path.read_text() for path in REFERENCE.glob("*.md")}
    report(
        [
            f"docs/reference/{name} has other signatures; run `python -m docs.site.signatures`"
            for name, text in pages.items()
            if text != with_signatures(text, packages)
        ]
    )


def test_the_signatures_stand_below_the_names_of_a_page_and_leave_it_for_the_site(
    packages: Any,
) -> None:
    page = (
        "::: actors.wait_exit\n\n::: actors.Registry\n    options:\n      members: [lock]\n\n"
        "::: actors.testing.SharedMessages\n    options:\n      members: []\n\n    code\n\nMore.\n"
    )
    shown = with_signatures(page, packages)
    assert "::: actors.wait_exit\n\n    async wait_exit(pid) -> ExitReason\n\n" in shown
    assert "    class Registry(keys, *, name=None," in shown
    assert "        async with lock(key) -> None\n\n:::" in shown
    assert "members: []\n\nMore." in shown
    assert without_signatures(shown) == without_signatures(page)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        # The fields of a struct stand in its base class too.
        ("actors.Reply", "class Reply(value=None, *, then=None)"),
        ("supervision.chaos.Kill", "class Kill(*, target, when, pick=None)"),
        ("channels.PushReply", "class PushReply(payload=..., status="),
        # Only Ashtree calls this constructor, which nothing describes.
        ("channels.client.ClientPush", "class ClientPush\n"),
    ],
)
def test_a_signature_shows_the_parameters_that_users_pass(
    packages: Any, name: str, shown: str
) -> None:
    assert f"\n    {shown}" in with_signatures(f"::: {name}\n", packages)


def test_the_page_of_settings_lists_every_environment_variable() -> None:
    listed = set(re.findall(r"ASHTREE_\w+", (ROOT / "docs/reference/endpoint.md").read_text()))
    texts = [path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    used = {name for text in texts for name in re.findall(r"\bASHTREE_[A-Z_]+\b", text)}
    assert listed == used


def test_the_description_of_a_page_is_whole_sentences_of_its_first_paragraph() -> None:
    text = (
        "# A\n\n![x](y.svg)\n\nOne `thing` is [here](b.md). " + "Long " * 50 + "sentence.\n\nMore."
    )
    head = described("topics/a.md", text).removesuffix(text)
    assert head == '---\ndescription: "One thing is here."\nmarkdown: "topics/a.md"\n---\n'


def part(location: str, title: str = "T", level: int = 1) -> Part:
    return Part(location=location, level=level, title=title, text="<p>x</p>", path=[], tags=[])


def test_the_search_prefers_guides_and_names_members_with_their_class() -> None:
    parts = [
        part("project/changelog.html"),
        part("reference/channel.html#channels.Channel.broadcast", "broadcast", 4),
        part("reference/channel.html"),
        part("howto/deploy.html#tls", level=2),
        part("howto/deploy.html"),
    ]
    found = in_order(parts)
    assert [each["location"] for each in found] == [
        "howto/deploy.html",
        "howto/deploy.html#tls",
        "reference/channel.html",
        "reference/channel.html#channels.Channel.broadcast",
    ]
    assert found[0]["text"].startswith("<p>Also: ")
    assert found[-1]["title"] == "Channel.broadcast"


def test_each_page_with_more_words_for_the_search_exists() -> None:
    names = [name.replace(".html", ".md") for name in SYNONYMS]
    report([f"there is no docs/{name}" for name in names if not (ROOT / "docs" / name).is_file()])
