"""Actions and probes for the Chaos Toolkit, so that `chaos run experiment.json` can drive a running Ashtree.

    {"type": "action", "name": "kill the listener", "provider": {
        "type": "python", "module": "supervision.laboratory.chaos.toolkit", "func": "kill_process",
        "arguments": {"target": "/top/endpoint/listener"}}}

The server needs the plug `ChaosControl` of `channels.operations.chaos_control`. These functions send their requests to
this plug over HTTP. They need only the standard library and msgspec, and work without the Chaos Toolkit too.

| setting | in the experiment | environment variable |
|---|---|---|
| address of the control | `ashtree_url` in `configuration` | `ASHTREE_CHAOS_URL` |
| token | `token` in the secrets of the provider | `ASHTREE_CHAOS_TOKEN` |

Each function also takes `configuration` and `secrets`. The toolkit passes these arguments. The argument `target` is a
registered name, or a path or a pattern as in a fault.

Each function blocks until the server has answered, for at most 30 seconds. If a connection ends without an answer, the
function tries again for 10 seconds, because a fault may end the connection of its own request. If the server refuses,
or does not answer, the function raises `ControlRefused`, and the toolkit counts the activity as failed.
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from secrets import token_hex
from statistics import median
from typing import Any, Final, TypeAlias

import msgspec

from actors.arguments import check_number
from actors.declared import declared
from supervision.errors import SupervisionError

__all__ = [
    "ControlRefused",
    "check_holds",
    "clients",
    "drain_worker",
    "event_loop_lag",
    "inject_fault",
    "kill_process",
    "missing_children",
    "owner_of",
    "process_is_alive",
    "request_latency",
    "restarts",
    "resume_process",
    "suspend_process",
    "tree_is_whole",
    "undo_faults",
]

Configuration: TypeAlias = Mapping[str, Any] | None
"""The configuration or the secrets of an experiment."""

URL: Final = "ASHTREE_CHAOS_URL"
TOKEN: Final = "ASHTREE_CHAOS_TOKEN"  # noqa: S105 # the name of a variable
DEFAULT_URL: Final = "http://localhost:4000/_ashtree/chaos"

TIMEOUT: Final = 30.0
"""Seconds to wait for the server's answer, in addition to the waiting time that a request contains."""

RETRY_SECONDS: Final = 10.0
"""Seconds for which a function repeats a request that gets no answer, or 503.

A fault may have ended the connection, or the supervisor of the connections, which restarts.
"""

RETRY_PAUSE: Final = 0.2


@declared()
class ControlRefused(SupervisionError):
    """The control of a server refused a request, or did not answer.

    Attributes:
        url: the address of the request.
        status: the HTTP status of the answer; None if there was no answer.
        problem: the reason, as one sentence.
    """

    url: str
    status: int | None
    problem: str

    def __str__(self) -> str:
        status = "did not answer" if self.status is None else f"answered {self.status}"
        return f"{self.url} {status}: {self.problem}"


# Actions


def kill_process(
    target: str, configuration: Configuration = None, secrets: Configuration = None
) -> str:
    """Kill a process. Return its path."""
    return str(_ask("kill", {"target": target}, configuration, secrets))


def suspend_process(
    target: str, configuration: Configuration = None, secrets: Configuration = None
) -> str:
    """Suspend a server process. It handles no messages until `resume_process`. Return the path of the process."""
    return str(_ask("suspend", {"target": target}, configuration, secrets))


def resume_process(
    target: str, configuration: Configuration = None, secrets: Configuration = None
) -> str:
    """Resume a suspended server process, so that it handles messages again. Return the path of the process."""
    return str(_ask("resume", {"target": target}, configuration, secrets))


def inject_fault(
    fault: dict[str, Any],
    wait: float = 5.0,
    configuration: Configuration = None,
    secrets: Configuration = None,
) -> dict[str, Any]:
    """Apply a fault of the catalogue.

        inject_fault({"type": "slow", "target": "/top/store", "seconds": 2.0})

    Args:
        fault: the fault, in the JSON format of a fault plan. Without `when`, the server applies the fault immediately.
        wait: seconds to wait for the moment of the fault, such as the next callback of a process.
        configuration: the configuration of the experiment.
        secrets: the secrets of the provider.

    Returns:
        A dict with three keys: `fault`, the fault in words; `where`, the place of the fault; `seconds`, the duration.

    Raises:
        ControlRefused: there was no matching process, or the moment of the fault did not come in time.
    """
    content = {"fault": fault, "wait": wait}
    when = fault.get("when") if isinstance(fault, dict) else None
    delay = when.get("seconds", 0.0) if isinstance(when, dict) else 0.0
    answer: dict[str, Any] = _ask(
        "inject", content, configuration, secrets, timeout=TIMEOUT + wait + delay
    )
    return answer


def undo_faults(configuration: Configuration = None, secrets: Configuration = None) -> int:
    """Undo all faults that still last, and return their number. Use this function as a rollback."""
    return int(_ask("undo", {}, configuration, secrets))


def drain_worker(configuration: Configuration = None, secrets: Configuration = None) -> str:
    """Drain the worker that gets the request, and return its id. The server then replaces the worker.

    Raises:
        ControlRefused: the server has no workers.
    """
    # Do not repeat the request, because another worker may get the second request and drain too.
    return str(_ask("drain", {}, configuration, secrets, retry_within=0.0))


# Probes


def tree_is_whole(configuration: Configuration = None, secrets: Configuration = None) -> bool:
    """Return True if every permanent child of every supervisor runs."""
    return not missing_children(configuration, secrets)


def missing_children(
    configuration: Configuration = None, secrets: Configuration = None
) -> list[str]:
    """Return the paths of the permanent children that do not run, and of all children that wait for a restart."""
    return list(_ask("missing", {}, configuration, secrets))


def restarts(
    seconds: float = 60.0, configuration: Configuration = None, secrets: Configuration = None
) -> int:
    """Return the number of restarts by all supervisors in the last `seconds`, at most 10,000."""
    return int(_ask("restarts", {"seconds": seconds}, configuration, secrets))


def event_loop_lag(
    seconds: float = 10.0,
    figure: str = "p99",
    configuration: Configuration = None,
    secrets: Configuration = None,
) -> float:
    """Return the lag of the server's event loop in seconds.

    Args:
        seconds: the time to look back, at most 600.
        figure: "median", "p99" or "longest".
        configuration: the configuration of the experiment.
        secrets: the secrets of the provider.

    The result includes planned stalls. The report of `ashtree chaos` excludes them.
    """
    answer = _ask("lag", {"seconds": seconds}, configuration, secrets)
    if figure not in answer:
        raise ValueError(f"event_loop_lag got figure={figure!r}; write one of {', '.join(answer)}")
    return float(answer[figure])


def request_latency(
    url: str | None = None,
    count: int = 5,
    configuration: Configuration = None,
    secrets: Configuration = None,
) -> float:
    """Return the median time of HTTP requests in seconds, measured by the process of the experiment.

    Args:
        url: an address for GET requests. With None, the function sends small requests to the control itself.
        count: the number of requests, one after the other.
        configuration: the configuration of the experiment.
        secrets: the secrets of the provider.

    Each request opens a new connection. A redirect is an error.
    """
    check_number("request_latency", "count", count, "1 or more", least=1)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        if url is None:
            _ask("ping", {}, configuration, secrets, retry_within=0.0)
        else:
            _send(urllib.request.Request(_checked(url)), TIMEOUT)  # noqa: S310 # `_checked`
        times.append(time.perf_counter() - began)
    return median(times)


def clients(configuration: Configuration = None, secrets: Configuration = None) -> int:
    """Return the number of connected clients, over WebSocket and long polling."""
    return sum(_ask("clients", {}, configuration, secrets).values())


def owner_of(
    supervisor: str, key: str, configuration: Configuration = None, secrets: Configuration = None
) -> str | None:
    """Return the name of the node that runs an entity; None if the entity does not run.

    Args:
        supervisor: the name of the `EntitySupervisor`.
        key: the key of the entity.
        configuration: the configuration of the experiment.
        secrets: the secrets of the provider.
    """
    answer = _ask("owner", {"supervisor": supervisor, "key": key}, configuration, secrets)
    return None if answer is None else str(answer)


def process_is_alive(
    target: str, configuration: Configuration = None, secrets: Configuration = None
) -> bool:
    """Return True if a process with this name or path is alive."""
    return bool(_ask("alive", {"target": target}, configuration, secrets))


def check_holds(
    check: str, configuration: Configuration = None, secrets: Configuration = None
) -> bool | str:
    """Return True if a check of the application holds. Otherwise return the problem as text.

    Give the probe the tolerance `true` in the experiment.

    Args:
        check: a name in `ChaosControl(checks=...)`.
        configuration: the configuration of the experiment.
        secrets: the secrets of the provider.
    """
    problem = _ask("check", {"check": check}, configuration, secrets)
    return True if problem is None else str(problem)


# Requests


def _ask(
    verb: str,
    content: dict[str, Any],
    configuration: Configuration,
    secrets: Configuration,
    *,
    timeout: float = TIMEOUT,
    retry_within: float = RETRY_SECONDS,
) -> Any:
    """Send a request to the control, and return its result."""
    base = (configuration or {}).get("ashtree_url") or os.environ.get(URL) or DEFAULT_URL
    token = str((secrets or {}).get("token") or os.environ.get(TOKEN) or "")
    url = f"{_checked(base).rstrip('/')}/{verb}"
    if not token:
        raise ControlRefused(
            url,
            None,
            f"there is no token; set the variable {TOKEN}, or `token` in the secrets of the experiment",
        )
    if not (token.isascii() and token.isprintable()):
        raise ControlRefused(url, None, "the token has a character that no header may have")
    request = urllib.request.Request(  # noqa: S310 # `_checked`
        url,
        data=msgspec.json.encode(content),
        method="POST",
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            # A repeated request has the same key, so the server does not repeat the action.
            "Idempotency-Key": token_hex(16),
        },
    )
    answer = _send_again(request, timeout, retry_within)
    try:
        return msgspec.json.decode(answer)["result"]
    except (msgspec.MsgspecError, KeyError, TypeError):
        problem = "the answer is not the answer of a ChaosControl; check the address"
        raise ControlRefused(url, 200, problem) from None


def _send_again(request: urllib.request.Request, timeout: float, within: float) -> bytes:
    """Send a request, and repeat it until there is an answer other than 503, for at most `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        try:
            return _send(request, timeout)
        except ControlRefused as refused:
            if refused.status not in (None, 503) or time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_PAUSE)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follow no redirect. urllib would send the token to the other address too."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirects)


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is not an address; write http://... or https://...")
    return url


def _send(request: urllib.request.Request, timeout: float) -> bytes:
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        moved = error.headers.get("location")
        problem = (
            f"it redirects to {moved}; write the right address" if moved else _problem_in(error)
        )
        raise ControlRefused(request.full_url, error.code, problem) from None
    except (OSError, HTTPException) as error:
        raise ControlRefused(request.full_url, None, str(error)) from None


def _problem_in(error: urllib.error.HTTPError) -> str:
    try:
        return str(msgspec.json.decode(error.read())["problem"])
    except (OSError, HTTPException, msgspec.MsgspecError, KeyError, TypeError):
        return str(error.reason)
