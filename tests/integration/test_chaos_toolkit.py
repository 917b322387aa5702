"""The Chaos Toolkit with a real server, and with the journal of a live run."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from chaoslib.experiment import (  # type: ignore[import-untyped] # chaostoolkit-lib has no types
    ensure_experiment_is_valid,
    run_experiment,
)
from chaoslib.loader import load_experiment  # type: ignore[import-untyped] # as above
from chaoslib.run import initialize_run_journal  # type: ignore[import-untyped] # as above

from actors import GenServer
from supervision import Supervisor, child_spec
from supervision.chaos import Kill, Phases, run_live, toolkit_journal
from supervision.laboratory.chaos import toolkit
from supervision.laboratory.chaos.faults.moments import At
from tests.integration.controlled_chat import TOKEN
from tests.integration.servers import ROOT, Server, serving

PAGE = ROOT / "docs" / "howto" / "chaos-in-staging.md"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("controlled")
    with serving("tests.integration.controlled_chat", folder) as server:
        yield server


@pytest.fixture
def control(chat: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the control. The environment contains this address and the token, as `chaos run` needs them."""
    url = f"{chat.url}/_ashtree/chaos"
    monkeypatch.setenv(toolkit.URL, url)
    monkeypatch.setenv(toolkit.TOKEN, TOKEN)
    return url


def activity(kind: str, name: str, function: str, **arguments: Any) -> dict[str, Any]:
    """Return an activity of an experiment that calls a function of Ashtree's extension."""
    module = "supervision.laboratory.chaos.toolkit"
    provider = {"type": "python", "module": module, "func": function, "arguments": arguments}
    return {"type": kind, "name": name, "provider": provider}


def test_the_toolkit_runs_the_experiment_of_the_guide(control: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = [block for block in blocks if '"steady-state-hypothesis"' in block]
    written = json.loads(text)
    # The guide shows one action and one probe. A second fault and a measured request run here too.
    written["method"][1:1] = [
        activity(
            "action",
            "slow the till down",
            "inject_fault",
            fault={
                "type": "slow",
                "target": "*/till",
                "seconds": 0.2,
                "when": {"type": "on", "callback": "handle_call"},
            },
        )
        | {"background": True}
    ]
    written["method"].append(activity("probe", "seconds for a request", "request_latency"))
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(written))
    experiment = load_experiment(str(file))
    ensure_experiment_is_valid(experiment)
    journal = run_experiment(experiment)
    assert (journal["status"], journal["deviated"]) == ("completed", False), journal
    assert [each["status"] for each in journal["run"] + journal["rollbacks"]] == ["succeeded"] * 5
    outputs = {each["activity"]["name"]: each["output"] for each in journal["run"]}
    assert outputs["kill all connections"].endswith("/endpoint/connections")
    assert outputs["slow the till down"]["seconds"] == 0.2
    assert outputs["the till answers"] is True
    assert outputs["seconds for a request"] > 0.0


def test_an_experiment_that_breaks_its_hypothesis_deviates(control: str) -> None:
    def provider(func: str, **arguments: Any) -> dict[str, Any]:
        module = "supervision.laboratory.chaos.toolkit"
        return {"type": "python", "module": module, "func": func, "arguments": arguments}

    probe = {
        "type": "probe",
        "name": "the till answers",
        "tolerance": True,
        "provider": provider("check_holds", check="the till answers"),
    }
    suspend = {
        "type": "action",
        "name": "suspend the till",
        "provider": provider("suspend_process", target="till"),
    }
    experiment = {
        "title": "A suspended till",
        "description": "It does not answer.",
        "steady-state-hypothesis": {"title": "It answers", "probes": [probe]},
        "method": [suspend],
        "rollbacks": [],
    }
    try:
        journal = run_experiment(experiment)
    finally:
        assert toolkit.resume_process("till").endswith("/till")
    assert journal["deviated"] is True
    (after,) = journal["steady_states"]["after"]["probes"]
    assert "the check raised" in after["output"]
    assert toolkit.check_holds("the till answers") is True


def test_the_functions_work_without_an_experiment(control: str) -> None:
    assert toolkit.tree_is_whole()
    assert toolkit.process_is_alive("till")
    assert not toolkit.process_is_alive("nobody")
    assert toolkit.clients() == 0
    assert toolkit.undo_faults() == 0
    with pytest.raises(toolkit.ControlRefused, match="answered 409: this server has no workers"):
        toolkit.drain_worker()
    assert toolkit.restarts(3600) >= 0
    assert toolkit.event_loop_lag(600, "longest") >= 0.0
    assert toolkit.request_latency(control.replace("/_ashtree/chaos", "/health/live"), 1) > 0.0


async def a_till(world: Any) -> None:
    await Supervisor.start_link([child_spec(GenServer, id="till")], label="top")
    world.steady("the till is there", lambda: None)
    await world.until_over()


def test_the_toolkit_accepts_the_experiment_in_the_journal_of_a_live_run() -> None:
    outcome = run_live(
        a_till,
        7,
        seconds=0.3,
        faults=[Kill(target="/top/till", when=At(0.1))],
        phases=Phases(before=0.1, after=0.1),
    )
    journal = toolkit_journal(outcome, node="staging-1", platform="Linux")
    ensure_experiment_is_valid(journal["experiment"])
    written = initialize_run_journal(journal["experiment"])
    assert set(journal) == {*written, "end", "duration"}
    assert set(journal["steady_states"]) == set(written["steady_states"])
    (entry,) = journal["run"]
    assert (entry["status"], entry["output"]["ended"]) == ("succeeded", 1)


class Redirecting(BaseHTTPRequestHandler):
    """A server that redirects each request to another path of itself."""

    paths: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.paths.append(self.path)
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_the_token_does_not_follow_a_redirect() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/chaos"
            with pytest.raises(toolkit.ControlRefused, match="it redirects to /elsewhere"):
                toolkit.clients({"ashtree_url": url}, {"token": TOKEN})
        finally:
            server.shutdown()
            thread.join()
    assert Redirecting.paths == ["/chaos/clients"]


class Restarting(BaseHTTPRequestHandler):
    """A server whose connections restart, so the first request gets no process."""

    statuses: ClassVar[list[int]] = [503, 200]

    def do_POST(self) -> None:
        self.send_response(self.statuses.pop(0))
        self.send_header("Content-Length", "14")
        self.end_headers()
        self.wfile.write(b'{"result":{} }')

    def log_message(self, *_: Any) -> None:
        pass


def test_a_request_during_a_restart_of_the_connections_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(toolkit, "RETRY_PAUSE", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Restarting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/chaos"
            assert toolkit.clients({"ashtree_url": url}, {"token": TOKEN}) == 0
        finally:
            server.shutdown()
            thread.join()
    assert Restarting.statuses == []


def test_a_server_without_an_answer_or_a_token_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(toolkit, "RETRY_PAUSE", 0.0)
    monkeypatch.delenv(toolkit.TOKEN, raising=False)
    with pytest.raises(toolkit.ControlRefused, match="there is no token"):
        toolkit.clients({"ashtree_url": "http://127.0.0.1:1/x"})
    with pytest.raises(toolkit.ControlRefused, match="did not answer"):
        toolkit.request_latency(None, 1, {"ashtree_url": "http://127.0.0.1:1/x"}, {"token": TOKEN})
    with pytest.raises(toolkit.ControlRefused, match="no header may have"):
        toolkit.clients({"ashtree_url": "http://127.0.0.1:1/x"}, {"token": f"{TOKEN}\n"})
    with pytest.raises(ValueError, match="write http"):
        toolkit.clients({"ashtree_url": "file:///etc/passwd"}, {"token": TOKEN})
