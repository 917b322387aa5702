"""Start an endpoint together with the other processes of an example."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from channels import Endpoint
from channels.cli.serve import explain
from supervision import ChildSpec, application


def run_program(
    endpoint: Endpoint,
    before: Sequence[ChildSpec] = (),
    after: Sequence[ChildSpec] = (),
    *,
    port: int | None = None,
) -> None:
    """Run an endpoint and other processes until Ctrl-C.

    Args:
        endpoint: the server.
        before: processes that the channels of the server need. They start before the server and stop after it.
        after: processes that start after the server and stop before it.
        port: the port; None reads it from the option `--port` of the program.
    """
    if port is None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--port", type=int, default=4000, help="0 takes any free one")
        port = parser.parse_args().port
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    application.run(
        [*before, endpoint.child_spec(port=port), *after],
        on_started=lambda _: print(
            f"Serving on http://127.0.0.1:{endpoint.address[1]} (Ctrl-C stops it)", flush=True
        ),
        shutdown_deadline=endpoint.draining.shutdown_deadline,
        explain=explain,
    )
