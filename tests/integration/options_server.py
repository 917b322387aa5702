"""Mounts with options that the examples have no use for: `python -m tests.integration.options_server`."""

from typing import Any

from channels import Channel, ConnectRefused, Endpoint, Mount, Socket
from channels.cli.serve import run_endpoint
from examples.conformance import UserSocket


class WhoChannel(Channel):
    """A channel that replies to a join with the token and the tenant of the client."""

    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        return {"token": self.assigns["token"], "tenant": self.assigns["tenant"]}


class TokenSocket(Socket):
    """A socket that accepts every client with a token."""

    channels = {"who": WhoChannel}

    async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
        if connect_info.auth_token is None:
            raise ConnectRefused("no token")
        self.assigns.update(token=connect_info.auth_token, tenant=params["tenant"])


endpoint = Endpoint(
    sockets={
        "/socket": Mount(UserSocket, compress=True),
        "/limited": Mount(UserSocket, max_messages_per_second=0.01, max_joining=1),
        "/private/:tenant": Mount(TokenSocket, auth_token=True, longpoll=True),
    }
)

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="error")
