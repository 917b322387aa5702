"""What there is to know of an application before it runs: its tree, what it needs, what it wants done at its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, TypeAlias

from attrs import field, frozen

from supervision.applications.application import Top
from supervision.errors import SupervisionError

__all__ = [
    "ApplicationNotStarted",
    "ApplicationSpec",
    "ApplicationType",
    "BadApplication",
    "DependencyNotStarted",
    "in_order",
]

ApplicationType: TypeAlias = Literal["permanent", "transient", "temporary"]

_TYPES = ("permanent", "transient", "temporary")


class BadApplication(SupervisionError, ValueError):
    """An application says something that cannot be, or two different ones have the same name.

    Field: `name` of the application.
    """

    def __init__(self, name: object, problem: str) -> None:
        super().__init__(f"application {name!r}: {problem}")
        self.name = name


class DependencyNotStarted(SupervisionError):
    """An application was to be started before one that it depends on.

    Fields: `name`; `dependency`, the name of the other.
    """

    def __init__(self, name: str, dependency: str) -> None:
        super().__init__(
            f"application {name!r} depends on {dependency!r}, which is not running; "
            "ensure_all_started starts both, in order"
        )
        self.name = name
        self.dependency = dependency


class ApplicationNotStarted(SupervisionError):
    """An application was to be stopped that is not running.

    Field: `name`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"application {name!r} is not running")
        self.name = name


def _top(value: Top) -> Top:
    return value if callable(value) else tuple(value)


def _specs(value: Iterable[ApplicationSpec]) -> tuple[ApplicationSpec, ...]:
    return tuple(value)


@frozen(kw_only=True, eq=False)
class ApplicationSpec:
    """One application.

        ApplicationSpec(name="metrics", top=[Collector, Exporter], type="temporary")

    Args:
        name: what others know it by; one name, one application.
        top: the children of its top supervisor (strategy "one_for_one"), or an async function that starts a
            supervisor, linked, and returns its pid.
        depends_on: the applications that must run before it starts.
        type: what it means when it ends by itself. `"permanent"` (the default): the program ends. `"transient"`: the
            same, unless the reason is `NORMAL`, with which supervisors do not end. `"temporary"`: nothing.
        prep_stop: awaited before it is stopped, while all of it is still running.
        stop: awaited when nothing of it is running any more, however it came to that.

    Raises:
        BadApplication: see there.

    What `prep_stop` and `stop` raise is reported as an event, and changes nothing. After OTP's applications, without
    what serves code loading, configuration and start phases.
    """

    name: str
    top: Top = field(converter=_top)
    depends_on: tuple[ApplicationSpec, ...] = field(default=(), converter=_specs)
    type: ApplicationType = "permanent"
    prep_stop: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None

    def __attrs_post_init__(self) -> None:
        if self.type not in _TYPES:
            raise BadApplication(
                self.name, f'type is {self.type!r}; write "permanent", "transient" or "temporary"'
            )
        for other in self.depends_on:
            if not isinstance(other, ApplicationSpec):
                raise BadApplication(
                    self.name, f"it depends on {other!r}; write the ApplicationSpec itself"
                )

    def closure(self) -> list[ApplicationSpec]:
        """This application and all that it depends on, each after those that it depends on itself."""
        return in_order([self])


def in_order(specs: Iterable[ApplicationSpec]) -> list[ApplicationSpec]:
    """Applications and all that they depend on, each once, after those that it depends on itself."""
    ordered: dict[str, ApplicationSpec] = {}

    def add(spec: ApplicationSpec) -> None:
        known = ordered.get(spec.name)
        if known is None:
            for other in spec.depends_on:
                add(other)
            ordered[spec.name] = spec
        elif known is not spec:
            raise BadApplication(spec.name, "there are two different applications of this name")

    for spec in specs:
        add(spec)
    return list(ordered.values())
