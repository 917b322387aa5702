"""Another distribution that has replaced a package of Ashtree stops the import with one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from actors.installation import damage_of
from tests.architecture.sources import PACKAGES, ROOT

THEIRS = '__version__ = "4.2.0"\nDEFAULT_CHANNEL_LAYER = "default"\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the packages of Ashtree, in which a test can replace one."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        for file in (ROOT / package).iterdir():
            (tmp_path / package / file.name).symlink_to(file)
    return tmp_path


def replace(site: Path, package: str) -> None:
    """Do what `pip install` of the other distribution does."""
    file = site / package / "__init__.py"
    file.unlink()
    file.write_text(THEIRS)
    info = site / f"{package}-4.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 4.2.0\n")
    (info / "RECORD").write_text(f"{package}/__init__.py,,\n")


def run(site: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("package", "program"),
    [
        ("supervision", "import channels"),
        ("supervision", "import actors"),
        ("channels", "import supervision"),
        ("channels", "from actors import call"),
    ],
)
def test_an_import_beside_a_package_of_others_fails_with_the_sentence_of_the_commands(
    site: Path, package: str, program: str
) -> None:
    replace(site, package)
    known = {"channels": "Django Channels", "supervision": "Roboflow Supervision"}[package]
    last = run(site, program).stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: {package} 4.2.0 ({known}) is installed in this environment beside Ashtree"
    )
    assert f"it has overwritten {package}/__init__.py, so Ashtree cannot work" in last
    assert "install Ashtree in an environment of its own" in last


@pytest.mark.parametrize("package", ["channels", "supervision"])
def test_the_command_ends_with_the_sentence_alone(site: Path, package: str) -> None:
    replace(site, package)
    (site / "ashtree").write_text("from channels.cli.command import main\n\nmain()\n")
    done = subprocess.run(
        [sys.executable, str(site / "ashtree"), "--version"],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "so Ashtree cannot work" in line


@pytest.mark.parametrize("installed", ["ashtree", "channels"])
def test_a_file_that_an_uninstall_has_removed_is_named_as_missing(
    site: Path, installed: str
) -> None:
    (site / "channels/__init__.py").unlink()
    assert [damage_of(package, site) for package in ("actors", "channels")] == [None, "missing"]
    info = site / f"{installed}-4.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {installed}\nVersion: 4.2.0\n")
    (info / "RECORD").write_text("channels/__init__.py,,\n")
    last = run(site, "import supervision").stderr.splitlines()[-1]
    assert "channels/__init__.py is missing, so Ashtree cannot work" in last
    assert "reinstall ashtree" in last
    assert ("beside Ashtree" in last) is (installed == "channels")


def test_a_file_of_unknown_origin_is_not_blamed_on_a_distribution_that_is_not_installed(
    site: Path,
) -> None:
    file = site / "channels/__init__.py"
    file.unlink()
    file.write_text(THEIRS)
    last = run(site, "import actors").stderr.splitlines()[-1]
    assert last == (
        "ImportError: channels/__init__.py is not the file of Ashtree, so Ashtree cannot work; reinstall ashtree"
    )


@pytest.mark.parametrize("whole", [True, False], ids=["without the package", "without its file"])
def test_a_copy_of_some_packages_works(site: Path, whole: bool) -> None:
    if whole:
        shutil.rmtree(site / "channels")
    else:
        (site / "channels/__init__.py").unlink()
    assert run(site, "import supervision").stderr == ""


def test_an_import_from_an_archive_works(tmp_path: Path) -> None:
    archive = tmp_path / "ashtree.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for package in PACKAGES:
            for file in (ROOT / package).rglob("*.py"):
                packed.write(file, str(file.relative_to(ROOT)))
    assert (
        run(tmp_path, f"import sys; sys.path.insert(0, {str(archive)!r}); import actors").stderr
        == ""
    )
