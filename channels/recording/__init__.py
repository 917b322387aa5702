"""Recordings of a server with channels: the frames of each client, and the events of all processes.

    Supervisor.start_link([recorder_spec(file="run.jsonl"), endpoint.child_spec()])

`ashtree serve --record FILE` and `--capsules FOLDER` do the same. `ashtree story FILE` prints the story of a recording.
"""

from channels.recording.clients import open_recorder, record_channels, recorder_spec
from supervision.recording.files import Capsules

__all__ = ["Capsules", "open_recorder", "record_channels", "recorder_spec"]
