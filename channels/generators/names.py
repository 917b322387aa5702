"""The names of generated projects, channels, presences, entities and sockets.

*pure*, except that `check_project` looks for installed packages.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from typing import Final

from attrs import frozen

from actors.text import brief
from channels.errors import ChannelsError

__all__ = ["Name", "check_module", "check_project", "parse_name"]

_OURS: Final = {"actors", "ashtree", "channels", "supervision"}
_TAKEN: Final = {"deploy", "static", "test", "tests"}
# The classes of these would hide classes that the generated module or its test imports.
_HIDING: Final = {
    "channel": {"test"},
    "presence": {"channel", "presence", "presences"},
    "entity": {
        *("add", "any", "entity", "entity_supervisor", "history", "look"),
        *("reply", "sender", "state", "struct"),
    },
    "socket": {"test"},
}
_LONGEST: Final = 40
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_VALID: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@frozen
class Name:
    """A name in four notations: snake_case, CamelCase, with dashes, and as a title.

        >>> parse_name("GameTable")
        Name(snake='game_table')

    Attributes:
        snake: the name for modules and topics, such as `game_table`.
    """

    snake: str

    @property
    def camel(self) -> str:
        """The name for classes, such as `GameTable`."""
        return "".join(part.capitalize() for part in self.snake.split("_"))

    @property
    def dashed(self) -> str:
        """The name for distributions and for configuration files, such as `game-table`."""
        return self.snake.replace("_", "-")

    @property
    def title(self) -> str:
        """The name for text that people read, such as `Game table`."""
        return self.words.capitalize()

    @property
    def words(self) -> str:
        """The name within a sentence, such as `game table`."""
        return self.snake.replace("_", " ")

    @property
    def plural(self) -> str:
        """The name of several, such as `game_tables`, by the regular rules of English."""
        if re.search(r"(s|x|z|ch|sh)$", self.snake):
            return f"{self.snake}es"
        return f"{re.sub(r'(?<=[^aeiou])y$', 'ie', self.snake)}s"


def parse_name(text: str) -> Name:
    """Return the `Name` for a text in snake_case or CamelCase.

    Raises:
        ChannelsError: the text is neither in snake_case nor in CamelCase, is too long, or is a keyword of Python.
    """
    snake = _HUMP.sub("_", text).lower()
    if _VALID.fullmatch(snake) is None:
        better = re.sub(r"[^a-z0-9]+", "_", snake).strip("_0123456789")
        instead = f"{better!r}" if _VALID.fullmatch(better) else "a name such as 'game_table'"
        raise _invalid(text, "is not lower-case letters, digits and underscores", instead)
    if len(snake) > _LONGEST:
        raise _invalid(text, f"is longer than {_LONGEST} characters", "a shorter one")
    if keyword.iskeyword(snake) or keyword.issoftkeyword(snake):
        raise _invalid(text, "is a keyword of Python", f"another one, such as 'my_{snake}'")
    return Name(snake)


def check_module(kind: str, name: Name) -> None:
    """Check that a generated module may have this name. Its class must not hide one that the module or its test uses.

    Raises:
        ChannelsError: Ashtree has a class with the name of the class.
    """
    if name.snake in _HIDING[kind]:
        other = f"another one, such as 'my_{name.snake}'"
        raise _invalid(name.snake, "makes a class with the name of a class of Ashtree", other)


def check_project(name: Name) -> None:
    """Check that a project may have a name: the project's package must not hide another package.

    Raises:
        ChannelsError: Python, Ashtree or an installed distribution has a package with this name.
    """
    other = f"another one, such as 'my_{name.snake}'"
    if name.snake in _OURS or name.snake in _TAKEN:
        raise _invalid(name.snake, "is taken by Ashtree or by a folder of the project", other)
    if name.snake in sys.stdlib_module_names:
        raise _invalid(name.snake, "is taken by a module of Python", other)
    found = importlib.util.find_spec(name.snake)
    # The current folder may be on Python's path. A folder there without `__init__.py` has no origin, so it is no
    # problem.
    if found is not None and found.origin is not None:
        raise _invalid(name.snake, f"is taken by an installed package, {found.origin}", other)


def _invalid(name: str, problem: str, instead: str) -> ChannelsError:
    return ChannelsError(f"the name {brief(name)} {problem}; write {instead}")
