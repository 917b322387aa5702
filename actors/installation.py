"""The check for other distributions with the same package names, such as Django Channels and Roboflow Supervision.

pip lets two distributions write into one folder, and the later one overwrites files of the earlier one. Then imports
fail that seem unrelated. The import of `actors` checks the folders beside it, because every import of Ashtree begins
there, unless the other distribution has replaced the very package that the program imports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

__all__ = ["Clash", "Damage", "damage_of", "find_clashes"]

Damage: TypeAlias = Literal["overwritten", "missing"]

# Ashtree's packages. For each package, a name that only Ashtree's `__init__.py` contains.
_FACADES: Final = {"actors": "GenServer", "supervision": "Supervisor", "channels": "Endpoint"}
_KNOWN: Final = {"channels": "Django Channels", "supervision": "Roboflow Supervision"}
_FOLDER: Final = Path(__file__).parents[1]


class Clash(msgspec.Struct, frozen=True, kw_only=True):
    """Another distribution that has installed files into a package of Ashtree, or has left damage there.

    Attributes:
        package: the package.
        version: the version of the other distribution, which has the package's name; None if none is installed.
        damage: the damage to the package's `__init__.py`, without which Ashtree cannot work; None if there is none.
    """

    package: str
    version: str | None
    damage: Damage | None

    def __str__(self) -> str:
        file = f"{self.package}/__init__.py"
        if self.version is None:
            state = "is missing" if self.damage == "missing" else "is not the file of Ashtree"
            return f"{file} {state}, so Ashtree cannot work; reinstall ashtree"
        known = _KNOWN.get(self.package)
        other = f"{self.package} {self.version}" + (f" ({known})" if known else "")
        if self.damage == "overwritten":
            effect = f"it has overwritten {file}, so Ashtree cannot work"
        elif self.damage == "missing":
            effect = f"{file} is missing, so Ashtree cannot work"
        else:
            effect = f"Ashtree's files have overwritten some of its own, so {known or self.package} cannot work"
        return (
            f"{other} is installed in this environment beside Ashtree, and both install the package {self.package!r}: "
            f"{effect}; install Ashtree in an environment of its own (python -m venv), or uninstall {self.package} "
            "and then reinstall ashtree"
        )


def find_clashes() -> Iterator[Clash]:
    """Find other distributions with the names of Ashtree's packages, and the damage of earlier ones."""
    for package in _FACADES:
        damage, file = damage_of(package), f"{package}/__init__.py"
        other = _Installed.find(package)
        if damage == "missing" and not any(
            each and each.has(file) for each in (other, _Installed.find("ashtree"))
        ):
            # A copy of some of Ashtree's files, which pip has not installed.
            damage = None
        if other is not None and (
            damage or any(row.startswith(f"{package}/") for row in other.rows)
        ):
            yield Clash(package=package, version=other.version, damage=damage)
        elif damage:
            yield Clash(package=package, version=None, damage=damage)


class _Installed(msgspec.Struct):
    """An installed distribution.

    Attributes:
        version: its version.
        folder: the folder of its packages.
        rows: the files that it has installed. Files that both distributions have installed, and that an uninstall has
            removed, are among them. `Distribution.files` leaves out missing files since Python 3.12.
    """

    version: str
    folder: Path
    rows: list[str]

    @classmethod
    def find(cls, name: str) -> _Installed | None:
        if not _is_listed(name):
            return None
        # Imported here, because every import of Ashtree loads this module.
        import csv  # noqa: PLC0415
        from importlib import metadata  # noqa: PLC0415

        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return None
        rows = [row[0] for row in csv.reader((found.read_text("RECORD") or "").splitlines()) if row]
        return cls(found.version, Path(str(found.locate_file(""))), rows)

    def has(self, file: str) -> bool:
        """Return True if the distribution has installed a file beside this module."""
        return file in self.rows and self.folder.resolve() == _FOLDER.resolve()


def _is_listed(name: str) -> bool:
    """Return False if no folder of installed packages names the distribution.

    Each command asks this first, because `importlib.metadata` loads the modules of email and zipfile.
    """
    for folder in sys.path:
        # A folder may be missing. The files of an archive cannot have overwritten those of Ashtree.
        with suppress(OSError), os.scandir(folder or ".") as files:
            if any(each.name.lower().startswith((f"{name}-", f"{name}.")) for each in files):
                return True
    return False


def damage_of(package: str, folder: Path = _FOLDER) -> Damage | None:
    """Return the damage to `__init__.py` of a package of Ashtree. A missing package and one in an archive have none.

    Args:
        package: `actors`, `supervision` or `channels`.
        folder: the folder with the packages.
    """
    try:
        text = (folder / package / "__init__.py").read_text("utf-8")
    except FileNotFoundError:
        return "missing" if (folder / package).is_dir() else None
    except (OSError, UnicodeDecodeError):
        return None
    return None if _FACADES[package] in text else "overwritten"


def _check() -> None:
    """Refuse the import of Ashtree if another distribution has replaced or removed one of its packages.

    Raises:
        ImportError: another distribution has replaced a package, or an uninstall of it has removed one.
        SystemExit: the same, if the program is the command `ashtree`, which prints one sentence for each mistake. The
            command cannot catch the error itself, because this module runs before any module of the command.
    """
    # In an archive, no other distribution can overwrite files.
    if Path(__file__).is_file() and any(map(damage_of, _FACADES)):
        for clash in find_clashes():
            if clash.damage:
                if Path(sys.argv[0]).name == "ashtree":
                    raise SystemExit(str(clash))
                raise ImportError(str(clash), name=clash.package)


_check()
