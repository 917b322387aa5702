"""An example without its libraries or npm packages ends with one line that contains the command to type."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from examples.needs import npm_folder
from tests.architecture.sources import ROOT


def test_a_python_without_the_libraries_gets_one_line_with_the_command(tmp_path: Path) -> None:
    # Without site-packages, this Python has none of the libraries.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "examples.chat"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("The examples need trio and msgspec and starlette, which ")
    assert f"`{shlex.join([sys.executable, '-m', 'pip', 'install', '.[examples]'])}`" in line
    assert "`make -C . run`" in line


def test_a_page_without_phoenix_js_gets_the_command_for_the_folder_of_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = tmp_path / "clone/examples/chat"
    example.mkdir(parents=True)
    for here, shown in (
        (tmp_path / "clone", "examples/chat"),
        (example, "."),
        (tmp_path, "clone/examples/chat"),
        (Path("/"), str(example)[1:]),
    ):
        monkeypatch.chdir(here)
        with pytest.raises(SystemExit, match="from npm") as left:
            npm_folder(example, "phoenix/priv/static")
        assert str(left.value).endswith(f"run `npm install --prefix {shown}`")
    (example / "node_modules/phoenix/priv/static").mkdir(parents=True)
    assert npm_folder(example, "phoenix/priv/static").is_dir()
