"""Build the documentation site: prepare the pages of docs/, and convert them to HTML with Zensical.

Run it with `make docs`. The site is then in `build/docs/site`. The pages in docs/ are plain Markdown, so people can
also read them in the repository. This program changes a copy of the pages:

- A link to a file outside docs/, such as a module, becomes a link to a page that shows this file.
- A line `--8<-- "CHANGELOG.md"` becomes the text of that file.
- A line `<!-- recording: NAME -->` becomes a recording that the viewer plays.
- The first sentences of a page become its description.
- The signatures below the lines `::: name` go, because the conversion puts types and docstrings in their place.

After the conversion, it copies the Markdown of each page into the site, with its signatures, and puts the index of the
search in order.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from docs.site.recordings import RECORDINGS, recorded
from docs.site.search import in_order
from docs.site.signatures import without_signatures

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "docs"

PAGES_OF_FILES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
}
"""Files outside docs/ that have a page of their own in the site."""

_FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
_INCLUDE = re.compile(r'^--8<-- "(?P<path>[^"]+)"$', re.MULTILINE)
_RECORDING = re.compile(r"^<!-- recording: (?P<name>[\w-]+) -->$", re.MULTILINE)
_NO_PROSE = re.compile(r"[#|!>:`~]|---|- |\d+\. |<")
_LANGUAGES = {".py": "python", ".js": "javascript", ".html": "html", ".toml": "toml", ".css": "css"}


def prepared(path: str, text: str, read: Callable[[str], str]) -> tuple[str, set[str]]:
    """Return the text of a page for the site, and the files of the repository that need a page there.

    Args:
        path: the path of the page, from docs/.
        text: the text of the page.
        read: a function that returns the text of a file, by its path from the root of the repository.

    Example:
        >>> prepared("topics/a.md", "[b](../../actors/refs.py)", str)
        ('[b](../source/actors/refs.py.md)', {'actors/refs.py'})
    """
    shown = set[str]()

    def included(match: re.Match[str]) -> str:
        return _with_links(read(match["path"]), lambda target: _link(path, target, shown))

    folder = PurePosixPath("docs", path).parent
    text = _with_links(text, lambda target: _link(path, str(folder / target), shown))
    return _RECORDING.sub(_player, _INCLUDE.sub(included, text)), shown


def described(path: str, text: str) -> str:
    """Return a page with its description, and with the address of its Markdown in the site.

    The description is the beginning of the first paragraph: whole sentences, of at most 200 characters together.
    """
    blocks = (block.strip() for block in _FENCE.sub("", text).split("\n\n"))
    first = next((block for block in blocks if block and not _NO_PROSE.match(block)), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", " ".join(first.split()))
    description = ""
    for sentence in re.split(r"(?<=[.?!]) ", plain):
        if description and len(description) + len(sentence) >= 200:
            break
        description = f"{description} {sentence}".lstrip()
    fields = {"description": description, "markdown": path}
    head = "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items() if value)
    return f"---\n{head}---\n{text}"


def _player(match: re.Match[str]) -> str:
    """Return the frame that plays a recording. `prepare` writes the recording next to the pages of the study."""
    file, title = f"recordings/{match['name']}.html", RECORDINGS[match["name"]][0]
    frame = f'<iframe class="recording" src="{file}" title="Recording: {title}" loading="lazy"></iframe>'
    return f"{frame}\n\n[Open the recording alone]({file})"


def _link(page: str, target: str, shown: set[str]) -> str:
    """Return the link from a page of the site to a file of the repository. Add a file without a page to `shown`."""
    target = os.path.normpath(target)
    inside = PurePosixPath(target)
    if inside.parts[0] == "docs":
        to = inside.relative_to("docs").as_posix()
    elif target in PAGES_OF_FILES:
        to = PAGES_OF_FILES[target]
    else:
        shown.add(target)
        to = f"source/{target}.md"
    return os.path.relpath(to, PurePosixPath(page).parent)


def _with_links(text: str, link: Callable[[str], str]) -> str:
    """Replace the targets of all links outside fenced blocks."""

    def replaced(match: re.Match[str]) -> str:
        return f"{match['before']}{link(match['target'])}{match['anchor'] or ''}"

    done, parts = 0, list[str]()
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(replaced, text[done : fence.start()]), fence[0]]
        done = fence.end()
    return "".join([*parts, _LINK.sub(replaced, text[done:])])


def source_page(path: str, text: str) -> str:
    """Return the page that shows a file of the repository. The search of the site leaves the page out."""
    ticks = max((len(found) for found in re.findall(r"`{3,}", text)), default=2) + 1
    fence = "`" * ticks
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f"{_head(path)}\n{fence}{language}\n{text.rstrip()}\n{fence}\n"


def folder_page(path: str, folder: Path) -> str:
    """Return the page that lists the modules of a folder of the repository."""
    links = [
        f"- [{file.name}]({folder.name}/{file.name}.md)" for file in sorted(folder.glob("*.py"))
    ]
    return "\n".join([_head(path), *links, ""])


def _modules_of(paths: set[str]) -> set[str]:
    """Return the modules in the folders among these paths. The page of a folder links to its modules."""
    return {
        file.relative_to(ROOT).as_posix() for path in paths for file in (ROOT / path).glob("*.py")
    }


def _head(path: str) -> str:
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n"


def prepare(docs: Path, output: Path) -> None:
    """Write the pages, their files and the settings of the site into an empty folder."""
    pages, markdown = output / "pages", output / "markdown"
    shown = set[str]()
    for file in sorted(docs.rglob("*")):
        path = file.relative_to(docs).as_posix()
        to = pages / path
        if file.is_dir() or file.suffix in {".py", ".toml", ".pyc"} or "theme" in file.parts:
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text, found = prepared(path, file.read_text(), lambda name: (ROOT / name).read_text())
            text = described(path, text)
            to.write_text(without_signatures(text))
            copy = markdown / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
            shown |= found
        else:
            shutil.copyfile(file, to)
    for path in sorted(shown | _modules_of(shown)):
        to = pages / "source" / f"{path}.md"
        to.parent.mkdir(parents=True, exist_ok=True)
        file = ROOT / path
        to.write_text(
            folder_page(path, file) if file.is_dir() else source_page(path, file.read_text())
        )
    recordings = pages / "study" / "recordings"
    recordings.mkdir()
    for name in RECORDINGS:
        (recordings / f"{name}.html").write_text(recorded(name))
    shutil.copytree(docs / "site" / "theme", output / "theme")
    settings = (docs / "site" / "zensical.toml").read_text()
    (output / "zensical.toml").write_text(settings.replace("VERSION", _version()))


def _version() -> str:
    project: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["version"]


def finish(output: Path) -> None:
    """Copy the Markdown of each page beside its HTML, and put the index of the search in order."""
    site = output / "site"
    shutil.copytree(output / "markdown", site, dirs_exist_ok=True)
    index = site / "search.json"
    search = json.loads(index.read_text())
    search["items"] = in_order(search["items"])
    index.write_text(json.dumps(search, ensure_ascii=False))


def main() -> int:
    """Build the site, and return the exit code of Zensical."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    prepare(ROOT / "docs", OUTPUT)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", "zensical.toml"]
    code = subprocess.run(command, cwd=OUTPUT, check=False).returncode
    if code == 0:
        finish(OUTPUT)
        print(f"The site is in {OUTPUT / 'site'}.", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
