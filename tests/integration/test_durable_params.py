"""The parameters of `durable` in JavaScript, with the published phoenix.js."""

from __future__ import annotations

import json
import subprocess

from tests.integration.phoenix_js import FOLDER, require_node
from tests.patience import PATIENCE


def test_parameters_are_an_object_or_a_function_that_each_join_calls() -> None:
    done = subprocess.run(
        [require_node(), "durable_params.mjs"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    before, after = json.loads(done.stdout)
    assert before == [
        {"token": "t", "_position": None},
        {"token": "t0", "_position": None},
        {"_position": None},
    ]
    assert after == [
        {"token": "t", "_position": "p"},
        {"token": "t1", "_position": "p"},
        {"_position": "p"},
    ]
