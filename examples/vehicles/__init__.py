"""A live map: vehicles report their positions, and a page shows the moving vehicles.

Each vehicle is a Phoenix client that joins `vehicle:NAME` and pushes its position four times a second. Its channel is
a process on the server. The page joins `map`, where it gets all positions and the present vehicles.

    sensors.py     the vehicles: clients with `channels.client`
    server.py      the whole server: the channel of a vehicle, the channel of the map, the presence
    static/        the page, with phoenix.js
    city.py        the streets, and routes through them

Run it on one node, with a dozen vehicles in the same program:

    $ npm install --prefix examples/vehicles         # phoenix.js for the page
    $ python -m examples.vehicles
    Serving on http://127.0.0.1:4000 (Ctrl-C stops it)

Press a crash button on the page. The process of that vehicle's channel ends. The vehicle stops on the map, its client
joins again after a second, and the page shows the number of the new process. The presence has a `leave_grace`, so the
vehicle never leaves the list.

Run it with four workers. The page colours each vehicle by its worker:

    $ ashtree serve examples.vehicles.server:endpoint --workers 4
    $ python -m examples.vehicles.sensors --url ws://127.0.0.1:4000/socket

Run it on three nodes that meet at a Redis or Valkey server. This takes one changed line in `server.py`:

    pubsub = PubSub(RedisAdapter("redis://127.0.0.1", node_name="a"))

The line that is there reads the environment, so the same file serves all nodes:

    $ export REDIS_URL=redis://127.0.0.1
    $ NODE_NAME=a ashtree serve examples.vehicles.server:endpoint --port 4001
    $ NODE_NAME=b ashtree serve examples.vehicles.server:endpoint --port 4002
    $ NODE_NAME=c ashtree serve examples.vehicles.server:endpoint --port 4003
    $ python -m examples.vehicles.sensors --url ws://127.0.0.1:4001/socket --url ws://127.0.0.1:4002/socket \
        --url ws://127.0.0.1:4003/socket

Every node serves the same map. Kill one node with `kill -9`. Its vehicles leave the map after three seconds, the
`down_period`. Start the node again, and they return.
"""
