"""The server of the auctions: the channels of bidders and schedulers, their sockets, and the endpoint."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from actors import CallExit, call
from channels import ConnectInfo, Endpoint, JoinRefused, Mount, PushReply, Socket, handle_in, verify
from channels.durable import JAVASCRIPT, DurableChannel, Recovery
from channels.presence import Presence
from examples.log_in import TWO_WEEKS, log_in_pages
from examples.phoenix_js import shared_folders

from .auction import Bid, Look, Open, Price, Refused, auctions, history, pubsub

FOLDER = Path(__file__).parent
# Without this environment variable, the secret is random, so no bot and no scheduler can make a valid token.
SECRET = os.environ.get("SECRET_KEY_BASE") or secrets.token_urlsafe(48)

bidders = Presence(name="bidders", down_period=5.0)


class Offer(Struct):
    """The payload of `bid`."""

    amount: Price


class NewAuction(Struct):
    """The payload of `open`: an auction, with the key that its scheduler chose."""

    key: Annotated[str, Meta(pattern="^[a-z0-9-]{1,40}$")]
    auction: Open


async def ask(key: str, request: Bid | Open) -> PushReply:
    """Call an auction, on whatever node it lives, and return the reply to the push."""
    try:
        answer = await call(auctions.via(key), request, timeout=5)
    except CallExit as error:
        # A bidder may repeat it in both cases, because the same bid counts once.
        answer = Refused("it may have counted" if error.may_have_run else "please try again")
    if isinstance(answer, Refused):
        return PushReply({"reason": answer.reason}, status="error")
    return PushReply()


class AuctionChannel(DurableChannel):
    """One bidder in one auction. A bidder who comes back gets all events since then."""

    history = history

    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        self.key = topic.removeprefix("auction:")
        answer = await call(auctions.via(self.key), Look(), timeout=5)
        if isinstance(answer, Refused):
            raise JoinRefused({"reason": answer.reason})
        return {"node": pubsub.node_name}

    async def on_recovered(self, recovery: Recovery) -> None:
        bidders.track(self, self.assigns["user"], {"node": pubsub.node_name})
        await bidders.push_state(self)
        if not recovery.recovered:
            lot = await call(auctions.via(self.key), Look(), timeout=5)
            self.push("lot", msgspec.to_builtins(lot))

    @handle_in("bid")
    async def bid(self, payload: Offer) -> PushReply:
        return await ask(self.key, Bid(self.assigns["user"], payload.amount))


class HallChannel(DurableChannel):
    """The list of the auctions, for one bidder."""

    history = history

    async def on_recovered(self, recovery: Recovery) -> None:
        if not recovery.recovered:
            entries = (await history.read(self.topic)).entries
            self.push("list", {"auctions": [msgspec.json.decode(each.body) for each in entries]})


class SchedulerChannel(HallChannel):
    """A scheduler, which repeats each `open` with the same key until it gets an answer."""

    @handle_in("open")
    async def open(self, payload: NewAuction) -> PushReply:
        reply = await ask(payload.key, payload.auction)
        if reply.status == "ok":
            await self.append("opened", {"key": payload.key, "title": payload.auction.title})
        return reply


class UserSocket(Socket):
    """The socket of a bidder, with the token of the page."""

    channels = {"auctions": HallChannel, "auction:*": AuctionChannel}

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        token = connect_info.auth_token
        self.assigns["user"] = verify(SECRET, "user socket", token, max_age=TWO_WEEKS)

    def id(self) -> str:
        return f"user:{self.assigns['user']}"


class SchedulerSocket(Socket):
    """The socket of the schedulers, whose tokens only a program with the secret can make."""

    channels = {"auctions": SchedulerChannel}

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        verify(SECRET, "scheduler", connect_info.auth_token, max_age=TWO_WEEKS)


endpoint: Endpoint = Endpoint(
    sockets={
        "/socket": Mount(UserSocket, auth_token=True),
        "/scheduler": Mount(SchedulerSocket, auth_token=True),
    },
    static={**shared_folders(FOLDER, page="/page"), "/ashtree": JAVASCRIPT},
    http=log_in_pages(FOLDER, "auction.html", SECRET, lambda: endpoint),
    pubsub=pubsub,
    presences=[bidders],
    histories=[history],
    children=[auctions],
)
