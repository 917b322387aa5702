"""The conformance application with short limits, for strangers: `python -m tests.integration.impatient_server`."""

from channels import Endpoint, LongPoll, Mount
from channels.cli.serve import run_endpoint
from examples.conformance import UserSocket

HEAD_TIMEOUT = 1.0

endpoint = Endpoint(
    sockets={
        "/socket": Mount(
            UserSocket, compress=True, longpoll=LongPoll(window=4.0, body_timeout=1.0), timeout=5.0
        )
    },
    head_timeout=HEAD_TIMEOUT,
)

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="error")
