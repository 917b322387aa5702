"""The facade of chaos: its names, and the page that has them."""

import re

from supervision.laboratory import chaos
from tests.architecture.facades import facade_problems
from tests.architecture.sources import ROOT, report, source


def test_the_facade_of_chaos_has_only_names() -> None:
    path = "supervision/laboratory/chaos/__init__.py"
    report(facade_problems(source(path, (ROOT / path).read_text())))


def test_every_name_of_chaos_is_on_its_page() -> None:
    page = (ROOT / "docs/reference/chaos.md").read_text()
    page = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    words = {word for code in re.findall(r"`([^`]+)`", page) for word in re.findall(r"\w+", code)}
    assert sorted(set(chaos.__all__) - words) == []
