"""The check for other distributions with the same package names, such as Django Channels and Roboflow Supervision.

pip lets two distributions write into one folder, and the later one overwrites files of the earlier one. Then imports
fail that seem unrelated.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from attrs import frozen

__all__ = ["Clash", "find_clashes"]

# Ashtree's packages. For each package, a name that only Ashtree's `__init__.py` defines.
_FACADES: Final = {"actors": "GenServer", "supervision": "Supervisor", "channels": "Endpoint"}
_KNOWN: Final = {"channels": "Django Channels", "supervision": "Roboflow Supervision"}


@frozen(kw_only=True)
class Clash:
    """Another distribution that has installed files into a package of Ashtree.

    Attributes:
        package: the package.
        version: the version of the other distribution, which has the package's name.
        overwritten: True if it has overwritten `__init__.py` of the package, so that Ashtree cannot work.
    """

    package: str
    version: str
    overwritten: bool

    def __str__(self) -> str:
        known = _KNOWN.get(self.package)
        other = f"{self.package} {self.version}" + (f" ({known})" if known else "")
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
    for package, own in _FACADES.items():
        try:
            other = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue
        if any(name.startswith(f"{package}/") for name in _recorded_files(other)):
            overwritten = not hasattr(sys.modules.get(package), own)
            yield Clash(package=package, version=other.version, overwritten=overwritten)


def _recorded_files(distribution: metadata.Distribution) -> list[str]:
    """Return the names of the files that a distribution has installed, as its RECORD lists them.

    `Distribution.files` leaves out files that do not exist since Python 3.12. An uninstall of Ashtree removes files
    that both distributions have installed, and the clash must still show afterwards.
    """
    record = distribution.read_text("RECORD") or ""
    return [row[0] for row in csv.reader(record.splitlines()) if row]
