"""The wheel of the running Ashtree, for the folder `vendor` of a new project.

A project must be able to install Ashtree in a container and on a server. No package index has it, and the folder or the
wheel from which somebody installed it may be gone. So `build_wheel` packs the files that run now, whether pip installed
them from a clone, in editable mode, from a wheel or from a repository.

Source: the format is that of https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Container
from importlib import metadata
from pathlib import Path
from typing import Final

from channels.errors import ChannelsError

__all__ = ["build_wheel", "wheel_name"]

_PACKAGES: Final = ("actors", "supervision", "channels")
# The kinds of files of the packages. A folder may also have other files, such as those of an editor.
_KINDS: Final = frozenset({".py", ".typed", ".template", ".html", ".css", ".js", ".mjs", ".mts"})
# The files of the folder `.dist-info` that describe the distribution. The others describe this installation of it.
_DESCRIBING: Final = ("METADATA", "entry_points.txt", "licenses")
_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: ashtree\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
# The earliest time that a zip file can express. A fixed time makes the same files into the same bytes.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def wheel_name() -> str:
    """Return the file name of the wheel, such as `ashtree-0.1.0-py3-none-any.whl`.

    Raises:
        ChannelsError: Ashtree is not installed.
    """
    return f"ashtree-{_distribution().version}-py3-none-any.whl"


def build_wheel() -> bytes:
    """Return the bytes of a wheel of the Ashtree that runs this program. The same files give the same bytes.

    Raises:
        ChannelsError: Ashtree is not installed.
        ChannelsError: the description of the distribution is missing.
    """
    distribution = _distribution()
    about = f"ashtree-{distribution.version}.dist-info"
    listed = {file.as_posix() for file in distribution.files or ()}
    contents = {
        file.relative_to(_root()).as_posix(): file.read_bytes()
        for package in _PACKAGES
        for file in sorted((_root() / package).rglob("*"))
        if _belongs(file, _root() / package, listed)
    }
    for file in sorted(distribution.files or (), key=str):
        place = Path(str(distribution.locate_file(file)))
        # The paths of an installed distribution begin with the name of its `.dist-info`.
        folder, _, name = file.as_posix().partition("/")
        if folder == about and name.partition("/")[0] in _DESCRIBING and place.is_file():
            contents[f"{about}/{name}"] = place.read_bytes()
    if f"{about}/METADATA" not in contents:
        raise ChannelsError(
            f"the installation {about} lists no METADATA, so no wheel can be made of it; reinstall Ashtree with pip"
        )
    contents[f"{about}/WHEEL"] = _WHEEL.encode()
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in contents.items())
    contents[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _belongs(file: Path, package: Path, listed: Container[str]) -> bool:
    """Return True for a file of the package, False for other files in its folder and links to files outside of it.

    Some installers make links instead of files, so a link that the installation lists is a file of the package.
    """
    if file.suffix not in _KINDS or "__pycache__" in file.parts or not file.is_file():
        return False
    return (
        file.resolve().is_relative_to(package.resolve())
        or file.relative_to(_root()).as_posix() in listed
    )


def _root() -> Path:
    # The folder above the package `channels`.
    return Path(__file__).parents[2]


def _distribution() -> metadata.Distribution:
    try:
        return metadata.distribution("ashtree")
    except metadata.PackageNotFoundError:
        raise ChannelsError(
            f"Ashtree runs from {_root()}, but is not installed; run `pip install --editable {_root()}` first"
        ) from None


def _digest(data: bytes) -> str:
    encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={encoded.decode()}"
