"""The built-in invariants in a world: one watch for each runtime that is opened in it."""

from __future__ import annotations

from actors.runtime import Runtime
from supervision.chaos.invariants.base import Located, Violation, Watch
from supervision.chaos.invariants.built_in import Chosen, choose

__all__ = ["Watches"]


class Watches:
    """The watches of one world.

    Args:
        chosen: which invariants.
    """

    def __init__(self, chosen: Chosen) -> None:
        self._chosen: Chosen = chosen if chosen == "all" else tuple(chosen)
        self._watches: dict[Runtime, Watch] = {}
        # Whatever cannot be chosen is refused before the run.
        choose(self._chosen)

    def add(self, runtime: Runtime, places: Located) -> None:
        """Watch a runtime, after all instruments that it has; one in which nothing has happened yet."""
        invariants = choose(self._chosen)
        if invariants:
            self._watches[runtime] = Watch(runtime, invariants, places)

    def forget(self, runtime: Runtime) -> None:
        """A runtime is gone, in the middle of what it did: there is nothing to expect of it any more."""
        watch = self._watches.pop(runtime, None)
        if watch is not None:
            watch.close()

    def look(self, *, at_rest: bool) -> Violation | None:
        """What is wrong in any of them; `at_rest` if nobody can run."""
        for watch in self._watches.values():
            violation = watch.at_rest() if at_rest else watch.check()
            if violation is not None:
                return violation
        return None

    def close(self) -> None:
        """Watch no longer."""
        for runtime in tuple(self._watches):
            self.forget(runtime)
