"""The base of all supervisor processes: what they answer, and what they do about messages."""

from __future__ import annotations

from typing import Any, TypeVar

from actors.errors import StartError, StartIgnored
from actors.exits import ExitReason
from actors.messages import Exit
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Reply, Stop
from supervision._core.children import Children
from supervision._core.requests import ask, unknown_request
from supervision.child_spec import ChildCounts, ChildInfo, ChildSpec, RestartType
from supervision.errors import SupervisionError
from supervision.messages import CountChildren, TryAgain, WhichChildren

__all__ = ["SupervisorBase"]

C = TypeVar("C", bound=Children)


class SupervisorBase(GenServer[C]):
    """A process with children. A subclass sets `state` in `init` and extends `_answer`."""

    @staticmethod
    async def which_children(supervisor: object) -> list[ChildInfo]:
        """List the children of any supervisor, the one that was started last first.

        The id of a dynamic supervisor's child is None.

        Raises:
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
        """
        children: list[ChildInfo] = await ask(supervisor, WhichChildren())
        return children

    @staticmethod
    async def count_children(supervisor: object) -> ChildCounts:
        """Count the children of any supervisor.

        Raises:
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
        """
        counts: ChildCounts = await ask(supervisor, CountChildren())
        return counts

    @classmethod
    def _describe(
        cls,
        args: tuple[Any, ...],
        options: dict[str, Any],
        *,
        id: Any,
        restart: RestartType,
        significant: bool,
    ) -> ChildSpec:
        return ChildSpec(
            options.get("name") or cls.__name__ if id is None else id,
            cls.start_link,
            args,
            options,
            restart=restart,
            type="supervisor",
            significant=significant,
        )

    async def _answer(self, request: Any) -> Any:
        """Do what a request asks for and return the answer, or raise the error that the caller gets."""
        kind = type(request)
        if kind is WhichChildren:
            return self.state.which_children()
        if kind is CountChildren:
            return self.state.count_children()
        # One mistaken call must not stop the tree, and its caller must not wait in vain.
        raise unknown_request(self, request)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        try:
            return Reply(await self._answer(request))
        except (SupervisionError, StartError, StartIgnored) as refusal:
            # The traceback would keep the frames of this process alive for as long as the caller keeps the error.
            return Reply(refusal.with_traceback(None))

    async def handle_cast(self, message: Any) -> None:
        await super().handle_info(message)

    async def handle_info(self, message: Any) -> Stop | None:
        kind = type(message)
        if kind is Exit:
            return await self.state.ended(message.pid, message.reason)
        if kind is TryAgain:
            return await self.state.try_again(message)
        await super().handle_info(message)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        await self.state.stop_all()
