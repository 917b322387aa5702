"""A live auction: each auction is an entity, one process in the whole cluster.

    auction.py     the entity, its messages and its history
    server.py      the channels, the sockets and the endpoint
    schedule.py    a program outside the server that opens auctions
    bot.py         a bidder, which is a client in Python

Run `make auction`, `make auction ARGS='--workers 2'`, or `make auction-nodes`, which needs Valkey or Redis. Open the
page in two windows, and log in under two names. Kill the worker of an auction with `kill -9` while it counts down: the
auction goes on elsewhere, with the same bids.
"""
