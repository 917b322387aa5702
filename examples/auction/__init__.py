"""A live auction: each auction is an entity, one process in the whole cluster.

The entity decides which bid is the highest, counts down, and sells. Its history outlives it, so an auction goes on when
its worker or its node is killed.

    auction.py     the entity, its messages and its history
    server.py      the channels, the sockets and the endpoint
    schedule.py    a program outside the server that opens auctions
    bot.py         a bidder, which is a client in Python
    static/        the page, with phoenix.js

Run `npm install --prefix examples/chat` once. Then:

    $ make auction                            # one process
    $ make auction ARGS='--workers 2'         # two workers
    $ make auction-nodes                      # two nodes, at the ports 4000 and 4001, which meet at a Valkey server

Open the page in two windows, and log in under two names. Kill the worker of an auction with `kill -9` while it counts
down: the auction goes on elsewhere, with the same bids.
"""
