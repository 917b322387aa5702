"""The check for other distributions with the same package names, such as Django Channels and Roboflow Supervision.

pip lets two distributions write into one folder, and the later one overwrites files of the earlier one. Then imports
fail that seem unrelated. The import of `actors` checks the folders beside it, because every import of Ashtree begins
there, unless the other distribution has replaced the very package that the program imports.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Clash", "find_clashes", "is_replaced"]

# Ashtree's packages. For each package, a name that only Ashtree's `__init__.py` contains.
_FACADES: Final = {"actors": "GenServer", "supervision": "Supervisor", "channels": "Endpoint"}
_KNOWN: Final = {"channels": "Django Channels", "supervision": "Roboflow Supervision"}
_FOLDER: Final = Path(__file__).parents[1]


class Clash(msgspec.Struct, frozen=True, kw_only=True):
    """Another distribution that has installed files into a package of Ashtree.

    Attributes:
        package: the package.
        version: the version of the other distribution, which has the package's name; None if it is not known.
        overwritten: True if it has overwritten `__init__.py` of the package, so that Ashtree cannot work.
    """

    package: str
    version: str | None
    overwritten: bool

    def __str__(self) -> str:
        known = _KNOWN.get(self.package)
        version = "" if self.version is None else f" {self.version}"
        other = f"{self.package}{version}" + (f" ({known})" if known else "")
        effect = (
            f"it has overwritten {self.package}/__init__.py, so Ashtree cannot work"
            if self.overwritten
            else f"Ashtree's files have overwritten some of its own, so {known or self.package} cannot work"
        )
        return (
            f"{other} is installed in this environment beside Ashtree, and both install the package {self.package!r}: "
            f"{effect}; install Ashtree in an environment of its own (python -m venv), or uninstall {self.package} "
            "and then reinstall ashtree"
        )


def find_clashes() -> Iterator[Clash]:
    """Find other distributions with the names of Ashtree's packages."""
    # Imported here, because every import of Ashtree loads this module.
    import csv  # noqa: PLC0415
    from importlib import metadata  # noqa: PLC0415

    for package in _FACADES:
        overwritten = is_replaced(package)
        try:
            other = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            if overwritten:
                yield Clash(package=package, version=None, overwritten=True)
            continue
        # `Distribution.files` leaves out files that do not exist since Python 3.12. An uninstall of Ashtree removes
        # files that both distributions have installed, and the clash must still show afterwards.
        record = csv.reader((other.read_text("RECORD") or "").splitlines())
        if overwritten or any(row and row[0].startswith(f"{package}/") for row in record):
            yield Clash(package=package, version=other.version, overwritten=overwritten)


def is_replaced(package: str, folder: Path = _FOLDER) -> bool:
    """Return True if `__init__.py` of a package of Ashtree is not the one that Ashtree has installed.

    Args:
        package: `actors`, `supervision` or `channels`.
        folder: the folder with the packages.
    """
    try:
        return _FACADES[package] not in (folder / package / "__init__.py").read_text("utf-8")
    except OSError:
        # An uninstall of the other distribution removes the file, which both have installed.
        return True


def _check() -> None:
    """Refuse the import of Ashtree if another distribution has replaced one of its packages.

    Raises:
        ImportError: another distribution has replaced a package.
        SystemExit: the same, if the program is the command `ashtree`, which prints one sentence for each mistake. The
            command cannot catch the error itself, because this module runs before any module of the command.
    """
    if any(map(is_replaced, _FACADES)):
        for clash in find_clashes():
            if clash.overwritten:
                if Path(sys.argv[0]).name == "ashtree":
                    raise SystemExit(str(clash))
                raise ImportError(str(clash), name=clash.package)


_check()
