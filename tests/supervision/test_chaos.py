"""The facade of chaos, and the page that has its names."""

import re

from supervision import chaos
from tests.architecture.sources import ROOT


def test_every_name_of_chaos_is_on_its_page() -> None:
    page = (ROOT / "docs/reference/chaos.md").read_text()
    page = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    words = {word for code in re.findall(r"`([^`]+)`", page) for word in re.findall(r"\w+", code)}
    words.update(re.findall(r"^::: supervision\.chaos\.(\w+)$", page, flags=re.MULTILINE))
    assert sorted(set(chaos.__all__) - words) == []
