"""The sweeps of `make sweep`, each with its scenario and its share of the time."""

from supervision.simulation.search.campaign import Sweep

_SUPERVISION = "tests.simulation.sweeps.supervision"

SWEEPS: tuple[Sweep, ...] = (
    Sweep("processes", "tests.simulation.runtime_sweep:runtime_sweep", weight=2),
    Sweep("links, monitors and names", "tests.simulation.sweeps.runtime:processes", weight=1.5),
    Sweep("servers", "tests.simulation.sweeps.servers:servers", weight=2),
    Sweep("state machines", "tests.simulation.sweeps.state_machines:state_machines"),
    Sweep("timers", "tests.simulation.sweeps.timers:timers"),
    Sweep("registries", "tests.simulation.sweeps.registries:registries"),
    Sweep("crowds", "tests.simulation.sweeps.crowds:crowds", weight=0.5),
    Sweep("runtimes", "tests.simulation.sweeps.runtimes:runtimes"),
    Sweep("agents", "tests.simulation.sweeps.crowds:agents", weight=0.5),
    Sweep("chat", "tests.simulation.chat_scenario:chat_and_tree", weight=2),
    Sweep("long polling", "tests.simulation.longpoll_scenario:polls_under_faults"),
    Sweep("the client", "tests.simulation.client_scenario:clients_come_back"),
    Sweep("nodes and presence", "tests.simulation.cluster_scenarios:cluster"),
    Sweep("durable topics in memory", "tests.simulation.durable_scenario:in_memory", weight=0.5),
    Sweep("durable topics on disk", "tests.simulation.durable_scenario:on_disk", weight=0.5),
    Sweep("durable topics in Redis", "tests.simulation.durable_scenario:in_redis", weight=0.5),
    Sweep("channels in lockstep", "tests.simulation.sweeps.channels.lockstep:lockstep", weight=3),
    Sweep("channels in a crowd", "tests.simulation.sweeps.channels.crowd:crowd", weight=2),
    Sweep("connections", "tests.simulation.sweeps.channels.endpoint:connections", weight=2),
    Sweep(
        "connections under pressure",
        "tests.simulation.sweeps.channels.pressure:pressure",
        weight=2.5,
    ),
    Sweep("polling in lockstep", "tests.simulation.sweeps.channels.longpoll:polling"),
    Sweep("bodies", "tests.simulation.sweeps.channels.longpoll:bodies", weight=0.3),
    Sweep("PubSub", "tests.simulation.sweeps.channels.pubsub:pubsub", weight=0.5),
    Sweep("presence of one node", "tests.simulation.sweeps.channels.presence:presence"),
    Sweep("two nodes", "tests.simulation.sweeps.channels.nodes:two_nodes"),
    Sweep("the client in lockstep", "tests.simulation.sweeps.channels.client:client"),
    Sweep(
        "the client and a scripted server",
        "tests.simulation.sweeps.channels.scripted:scripted_server",
    ),
    Sweep(
        "storages of histories",
        "tests.simulation.sweeps.channels.histories:storages",
        weight=0.5,
    ),
    Sweep("plain sockets", "tests.simulation.sweeps.channels.sockets:flusher", weight=0.5),
    Sweep("workers", "tests.simulation.sweeps.channels.sockets:workers", weight=0.5),
    Sweep("durable channels", "tests.simulation.sweeps.channels.histories:durable_channels"),
    Sweep("tokens", "tests.simulation.sweeps.channels.tokens:tokens", weight=0.3),
    Sweep("nodes over Redis", "tests.simulation.redis_scenario:nodes_under_faults", weight=0.5),
    Sweep("supervisors", f"{_SUPERVISION}.supervisors:supervisors", weight=2),
    Sweep("dynamic supervisors", f"{_SUPERVISION}.dynamic:dynamic_supervisors"),
    Sweep("partition supervisors", f"{_SUPERVISION}.partitions:partition_supervisors"),
    Sweep("nested supervisors", f"{_SUPERVISION}.nested:nested_supervisors", weight=0.5),
    Sweep("tasks", f"{_SUPERVISION}.tasks:tasks"),
    Sweep("streams of tasks", f"{_SUPERVISION}.tasks:streams"),
    Sweep("applications", f"{_SUPERVISION}.applications:applications", weight=0.5),
)
