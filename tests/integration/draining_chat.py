"""The chat with a drain in small batches: `python -m tests.integration.draining_chat`."""

from channels import Draining, Endpoint, Mount
from channels.cli.serve import run_endpoint
from examples.chat.server import UserSocket

endpoint = Endpoint(
    sockets={"/socket": Mount(UserSocket, longpoll=True)},
    draining=Draining(batch_size=10, batch_interval=0.2),
)

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="info")
