"""The options `--record` and `--capsules` of `ashtree serve`."""

from pathlib import Path

import pytest
import typer

from channels.cli.program import of_worker, recorders
from channels.endpoint.endpoint import Endpoint
from channels.errors import ChannelsError
from channels.operations.chaos_control import ChaosControl, allow_chaos
from supervision.laboratory.chaos.toolkit import TOKEN


def test_without_the_options_there_is_no_recorder() -> None:
    assert recorders(None, None) == []


@pytest.mark.parametrize("option", ["record", "capsules"])
def test_each_option_gives_one_child_that_stops_in_its_own_time(
    tmp_path: Path, option: str
) -> None:
    path = tmp_path / "x"
    record, capsules = (path, None) if option == "record" else (None, path)
    (child,) = recorders(record, capsules, contents=True)
    assert child.args[0]["contents"] is True
    assert child.id == "recorder"
    assert float(child.shutdown) > 10.0


def test_a_missing_folder_is_named_before_the_server_starts(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="is missing"):
        recorders(tmp_path / "none" / "run.jsonl", None)


def test_each_worker_has_a_file_of_its_own() -> None:
    assert of_worker("logs/run.jsonl", 3) == "logs/run.3.jsonl"
    assert of_worker(None, 3) is None


def test_the_recording_of_a_killed_worker_stays_when_another_gets_its_id() -> None:
    assert of_worker("logs/run.jsonl", 3, starts=2) == "logs/run.3.2.jsonl"


def test_chaos_is_refused_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(ChannelsError, match="needs a token"):
        allow_chaos(Endpoint(sockets={}))


def test_chaos_adds_a_control_with_the_token_of_the_environment_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN, "a-token-for-the-tests")
    endpoint = Endpoint(sockets={})
    allow_chaos(endpoint)
    allow_chaos(endpoint)
    assert [type(each) for each in endpoint.plugs] == [ChaosControl]
