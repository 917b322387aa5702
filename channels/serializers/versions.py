"""Protocol versions as clients ask for them, and the requirements that choose a serializer.

*pure*. Versions follow Semantic Versioning 2.0.0 (https://semver.org), which is strict: three
numbers, no leading zeros. Requirements are written `~> 2.0.0`, as Phoenix writes them: the same
major and minor version, and not older. A pre-release is older than its release, so `2.0.0-rc.1`
does not satisfy `~> 2.0.0`, while `2.0.1-rc.1` does.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import field, frozen

from channels.errors import InvalidRequirement

__all__ = ["DEFAULT_VSN", "Requirement", "Version", "parse_version"]

DEFAULT_VSN: Final = "1.0.0"
"""What a client means that does not say which version of the protocol it speaks."""

# The version comes from a URL and numbers have no upper bound: without a limit, a client could
# have the server convert megabytes of digits.
_MAX_LENGTH = 128

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    rf"(?:-(?P<pre>{_PRE}(?:\.{_PRE})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


@frozen(order=True)
class Version:
    """A version, ordered by precedence; build metadata plays no part and is not kept.

    `rank` is what pre-releases are compared by: releases come after all of their pre-releases,
    numbers before words, numbers by value, words by their ASCII order, and the longer list last
    where all else is equal.
    """

    major: int
    minor: int
    patch: int
    rank: tuple[int, tuple[tuple[int, int, str], ...]] = (1, ())


def parse_version(text: str) -> Version | None:
    """Read a version; None if it is not one, or is longer than 128 characters.

    >>> parse_version("2.0.0-rc.1") < parse_version("2.0.0")
    True
    >>> parse_version("2.0") is None
    True
    """
    if len(text) > _MAX_LENGTH:
        return None
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    numbers = int(found["major"]), int(found["minor"]), int(found["patch"])
    if found["pre"] is None:
        return Version(*numbers)
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in found["pre"].split(".")
    )
    return Version(*numbers, rank=(0, parts))


def _read_requirement(text: str) -> Version:
    operator, _, version = text.partition(" ")
    minimum = parse_version(version)
    if operator != "~>" or minimum is None:
        raise InvalidRequirement(
            f"a serializer is offered for the version {text!r}, which is not a requirement: "
            "write three numbers behind '~>', for example '~> 2.0.0'",
            requirement=text,
        )
    return minimum


@frozen
class Requirement:
    """Which versions a serializer serves.

        >>> Requirement("~> 2.0.0").accepts("2.0.5")
        True
        >>> Requirement("~> 2.0.0").accepts("2.1.0")
        False

    `minimum` is the version in the text. Raises `InvalidRequirement` if the text is anything but
    `~>`, a space, and a version.
    """

    text: str
    minimum: Version = field(init=False)

    @minimum.default
    def _minimum(self) -> Version:
        return _read_requirement(self.text)

    def accepts(self, vsn: str) -> bool:
        """Tell whether a version, as a client wrote it, is one of those; nonsense is not."""
        version = parse_version(vsn)
        return version is not None and self.includes(version)

    def includes(self, version: Version) -> bool:
        """Tell whether a version is one of those."""
        minimum = self.minimum
        return (
            version.major == minimum.major and version.minor == minimum.minor and version >= minimum
        )
