"""The server that is attacked: `python -m tests.benchmarks.hostile.victim`. All limits are the defaults."""

from channels import Endpoint, Mount
from channels.cli import run_endpoint
from examples.conformance import UserSocket

endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, compress=True, longpoll=True)})

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="critical")
