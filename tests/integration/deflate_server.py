"""The conformance example with compression, for clients that know how: `python -m tests.integration.deflate_server`."""

from channels import Endpoint, Mount
from channels.cli import run_endpoint
from examples.conformance import UserSocket

endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, compress=True)})

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="error")
