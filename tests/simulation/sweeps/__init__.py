"""The sweeps of `make sweep`, with their scenarios and their shares of the time.

The weight of a sweep is about its CPU seconds in a run of ten minutes on two cores. Sweeps that compare each step with
a model find the most bugs per CPU second, so they get most of the time. Some long scenarios run shorter worlds here.
"""

from tests.simulation.campaign import Sweep

_SUPERVISION = "tests.simulation.sweeps.supervision"

SWEEPS: tuple[Sweep, ...] = (
    Sweep("processes", "tests.simulation.runtime_sweep:runtime_sweep", weight=40),
    Sweep("links, monitors and names", "tests.simulation.sweeps.runtime:processes", weight=55),
    Sweep("servers", "tests.simulation.sweeps.servers:servers", weight=65),
    Sweep("state machines", "tests.simulation.sweeps.state_machines:state_machines", weight=30),
    Sweep("timers", "tests.simulation.sweeps.timers:timers", weight=40),
    Sweep("registries", "tests.simulation.sweeps.registries:registries", weight=45),
    Sweep("zombies", "tests.simulation.sweeps.zombies:zombies", weight=25),
    Sweep("crowds", "tests.simulation.sweeps.crowds:crowds", weight=30),
    Sweep("runtimes", "tests.simulation.sweeps.runtimes:runtimes", weight=15),
    Sweep("agents", "tests.simulation.sweeps.crowds:agents", weight=20),
    Sweep("chat", "tests.simulation.chat_scenario:chat_and_tree", weight=25),
    Sweep("long polling", "tests.simulation.longpoll_scenario:polls_under_faults", weight=25),
    Sweep(
        "the client",
        "tests.simulation.client_scenario:clients_come_back",
        weight=40,
        params={"clients": 2, "seconds": 12.0},
    ),
    Sweep("nodes and presence", "tests.simulation.cluster_scenarios:cluster", weight=35),
    Sweep(
        "durable topics in memory",
        "tests.simulation.durable_scenario:in_memory",
        weight=35,
        params={"clients": 2, "seconds": 5.0},
    ),
    Sweep(
        "durable topics on disk",
        "tests.simulation.durable_scenario:on_disk",
        weight=45,
        params={"clients": 2, "seconds": 5.0},
    ),
    Sweep(
        "durable topics in Redis",
        "tests.simulation.durable_scenario:in_redis",
        weight=40,
        params={"clients": 2, "seconds": 5.0},
    ),
    Sweep("channels in lockstep", "tests.simulation.sweeps.channels.lockstep:lockstep", weight=85),
    Sweep("channels in a crowd", "tests.simulation.sweeps.channels.crowd:crowd", weight=40),
    Sweep("connections", "tests.simulation.sweeps.channels.endpoint:connections", weight=45),
    Sweep(
        "connections under pressure",
        "tests.simulation.sweeps.channels.pressure:pressure",
        weight=55,
    ),
    Sweep("polling in lockstep", "tests.simulation.sweeps.channels.longpoll:polling", weight=35),
    Sweep("bodies", "tests.simulation.sweeps.channels.longpoll:bodies", weight=10),
    Sweep("PubSub", "tests.simulation.sweeps.channels.pubsub:pubsub", weight=15),
    Sweep("presence of one node", "tests.simulation.sweeps.channels.presence:presence", weight=40),
    Sweep("two nodes", "tests.simulation.sweeps.channels.nodes:two_nodes", weight=40),
    Sweep("the client in lockstep", "tests.simulation.sweeps.channels.client:client", weight=50),
    Sweep(
        "time-outs of the client",
        "tests.simulation.sweeps.channels.client_times:client_times",
        weight=40,
    ),
    Sweep(
        "the client and a scripted server",
        "tests.simulation.sweeps.channels.scripted:scripted_server",
        weight=50,
    ),
    Sweep(
        "storages of histories", "tests.simulation.sweeps.channels.histories:storages", weight=30
    ),
    Sweep(
        "SQLite histories on a disk",
        "tests.simulation.sweeps.channels.disks:sqlite_history",
        weight=20,
    ),
    Sweep(
        "Redis histories on a disk",
        "tests.simulation.sweeps.channels.disks:redis_history",
        weight=20,
    ),
    Sweep("a journal on a disk", "examples.scenarios.journal:power_failures", weight=10),
    Sweep(
        "durable channels", "tests.simulation.sweeps.channels.histories:durable_channels", weight=45
    ),
    Sweep(
        "publishers over HTTP", "tests.simulation.sweeps.channels.histories:publishers", weight=20
    ),
    Sweep("plain sockets", "tests.simulation.sweeps.channels.sockets:flusher", weight=30),
    Sweep("workers", "tests.simulation.sweeps.channels.sockets:workers", weight=35),
    Sweep("Redis", "tests.simulation.sweeps.channels.redis:redis", weight=55),
    Sweep(
        "transports over socket pairs",
        "tests.simulation.sweeps.channels.socket_pairs:transports",
        weight=30,
    ),
    Sweep(
        "rows of the observer",
        "tests.simulation.sweeps.channels.observing:observer_rows",
        weight=15,
    ),
    Sweep("the observer", "tests.simulation.sweeps.channels.observing:observed_program", weight=25),
    Sweep("tokens", "tests.simulation.sweeps.channels.tokens:tokens", weight=8),
    Sweep("nodes over Redis", "tests.simulation.redis_scenario:nodes_under_faults", weight=40),
    Sweep("entities", "tests.simulation.sweeps.channels.entities:entities", weight=70),
    Sweep(
        "routers of entities",
        "tests.simulation.sweeps.channels.entity_routers:entity_routers",
        weight=20,
    ),
    Sweep(
        "arbiters of entities",
        "tests.simulation.sweeps.channels.entity_arbiters:entity_arbiters",
        weight=35,
    ),
    Sweep("supervisors", f"{_SUPERVISION}.supervisors:supervisors", weight=50),
    Sweep("dynamic supervisors", f"{_SUPERVISION}.dynamic:dynamic_supervisors", weight=25),
    Sweep("partition supervisors", f"{_SUPERVISION}.partitions:partition_supervisors", weight=25),
    Sweep("nested supervisors", f"{_SUPERVISION}.nested:nested_supervisors", weight=20),
    Sweep("tasks", f"{_SUPERVISION}.tasks:tasks", weight=35),
    Sweep("streams of tasks", f"{_SUPERVISION}.tasks:streams", weight=20),
    Sweep("recordings", f"{_SUPERVISION}.recording:recording", weight=30),
    Sweep("applications", f"{_SUPERVISION}.applications:applications", weight=15),
)
