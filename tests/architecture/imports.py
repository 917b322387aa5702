"""The imports between modules as a graph, and the rules that it keeps."""

import ast
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from typing import TypeAlias

from attrs import frozen

from tests.architecture.sources import LAYERS, Source

PURE = (
    "actors._kernel.link_graph",
    "actors.registry._table",
    "actors.exits",
    "actors.masking",
    "actors.messages",
    "actors.places",
    "actors.refs",
    "actors.servers.results",
    "actors.small_set",
    "actors.text",
    "supervision.laboratory.chaos.errors",
    "supervision.laboratory.chaos.faults.kinds",
    "supervision.laboratory.chaos.reports.journal",
    "supervision.recording.reader.history",
    "supervision.recording.reader.live",
    "supervision.recording.reader.measures",
    "supervision.recording.reader.rows",
    "supervision.laboratory.chaos.faults.moments",
    "supervision.laboratory.chaos.faults.plan",
    "supervision.laboratory.chaos.faults.report",
    "supervision.laboratory.chaos.settings",
    "supervision.laboratory.simulation.shrinking.ddmin",
    "supervision.laboratory.simulation.scheduling.deviations",
    "supervision.tree.records",
    "supervision.recording.conversion",
    "supervision.recording.ring",
    "supervision.recording.reader.figures",
    "supervision.recording.reader.records",
    "supervision.recording.reader.story",
    "supervision.laboratory.story.mermaid",
    "supervision.recording.reader.model",
    "supervision.laboratory.story.seeds",
    "supervision.recording.reader.sentences",
    "supervision.laboratory.story.svg",
    "supervision.laboratory.story.text",
    "supervision.recording.reader.words",
    "supervision.strategy",
    "channels.tokens._encryption",
    "channels.tokens._signing",
    "channels.tokens._erlang_terms",
    "channels.client.backoff",
    "channels.client.events",
    "channels.client.presence_fold",
    "channels.client.protocol",
    "channels.client.records",
    "channels.client.timers",
    "channels.client.wire",
    "channels.connect_info",
    "channels.durable.answers",
    "channels.durable.redis_script",
    "channels.durable.stream",
    "channels.entities.arbiters.redis_scripts",
    "channels.filters",
    "channels.messages",
    "channels.observer.memory",
    "channels.observer.model",
    "channels.observer.nodes",
    "channels.observer.showing",
    "channels.operations.metric_table",
    "channels.operations.recovery",
    "channels.pubsub.redis.outbox",
    "channels.pubsub.redis.protocol",
    "channels.pubsub.redis.server_errors",
    "channels.pubsub.redis.url",
    "channels.serializers",
    "channels.supabase.access",
    "channels.supabase.serializers",
    "channels.protocol.session",
    "channels.topics",
    "channels.protocol.longpoll",
    "channels.presence.clock",
    "channels.presence.delta",
    "channels.presence.diff",
    "channels.presence.generations",
    "channels.presence.replica",
    "channels.presence.snapshot",
    "channels.presence.state",
    "channels.presence.transfer",
    "channels.presence.wire",
    "channels.pubsub.workers.frames",
    "channels.pubsub.workers.grants",
    "channels.pubsub.workers.plan",
    "channels.wire",
)
"""Modules, and packages of them, that are given the time, chance and the world as arguments."""

IMPURE = {"asyncio", "os", "random", "secrets", "select", "selectors", "socket", "threading"}
IMPURE |= {"time", "trio"}
"""Modules that give access to time, chance and the outside world."""


@frozen
class Import:
    """One imported name: `from module import name`, or `import module` without a name."""

    importer: Source
    line: int
    module: str
    name: str | None

    @property
    def target(self) -> str:
        return self.module if self.name is None else f"{self.module}.{self.name}"

    @property
    def place(self) -> str:
        return f"{self.importer.path}:{self.line}"


Graph: TypeAlias = Mapping[str, Mapping[str, Import]]
"""For each module the modules that it imports, and one import that does it."""


def imports_of(importer: Source) -> list[Import]:
    """List every import of a module, wherever the statement stands in it.

    An import inside a function counts: a cycle that a function hides is a cycle. So does an import
    under `if TYPE_CHECKING:`: a reader has to follow it too.
    """
    found = []
    for node in ast.walk(importer.tree):
        if isinstance(node, ast.Import):
            found += [Import(importer, node.lineno, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(importer, node)
            found += [Import(importer, node.lineno, module, alias.name) for alias in node.names]
    return found


def _absolute(importer: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = importer.name.split(".")
    package = parts[: len(parts) - node.level + importer.is_package]
    return ".".join([*package, *([node.module] if node.module else [])])


def graph_of(sources: Sequence[Source]) -> Graph:
    """The imports between these modules; those of anything else are left out."""
    known = {source.name for source in sources}
    graph: dict[str, dict[str, Import]] = {source.name: {} for source in sources}
    for source in sources:
        for found in imports_of(source):
            target = found.target if found.target in known else found.module
            if target in known:
                graph[source.name].setdefault(target, found)
    return graph


def folder_graphs(sources: Sequence[Source]) -> Mapping[str, Graph]:
    """Return, for each folder, the imports between its children.

    The children of a folder are the modules directly in it, and its subfolders. An import between two modules counts in
    one folder only: the innermost that contains both. The imports of a facade do not count, because a facade is only
    a list of names.
    """
    packages = {source.name for source in sources if source.is_package}
    facades = {source.name for source in sources if source.is_package and _holds_names(source)}
    graphs: dict[str, dict[str, dict[str, Import]]] = {}
    for importer, targets in graph_of(sources).items():
        if importer in facades:
            continue
        for target, found in targets.items():
            folder = _common_folder(importer, target)
            children = _child(importer, folder, packages), _child(target, folder, packages)
            # Another rule forbids that a module imports the facade of its own folder.
            if folder and folder not in (importer, target):
                graph = graphs.setdefault(folder, {})
                graph.setdefault(children[1], {})
                graph.setdefault(children[0], {}).setdefault(children[1], found)
    return graphs


def _holds_names(source: Source) -> bool:
    return all(
        isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign | ast.If)
        for node in source.tree.body
    )


def _common_folder(one: str, other: str) -> str:
    pairs = zip(one.split("."), other.split("."), strict=False)
    return ".".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _child(module: str, folder: str, packages: set[str]) -> str:
    """Return the child of a folder that contains a module: the module itself, or a subfolder, with a slash."""
    child = ".".join(module.split(".")[: folder.count(".") + 2])
    return f"{child}/" if child in packages else child


def cycles(graph: Graph) -> list[str]:
    """One shortest cycle through the first node of every knot of modules or folders, with its lines."""
    problems = []
    knotted: set[str] = set()
    for start in sorted(graph):
        path = None if start in knotted else _shortest_way_back(graph, start)
        if path:
            knotted.update(path)
            steps = [graph[a][b] for a, b in pairwise(path)]
            lines = [f"    {step.place} imports {step.target}" for step in steps]
            problems.append("\n".join(["import cycle: " + " -> ".join(path), *lines]))
    return problems


def _shortest_way_back(graph: Graph, start: str) -> list[str] | None:
    ways = deque([[start]])
    seen: set[str] = set()
    while ways:
        way = ways.popleft()
        for target in sorted(graph[way[-1]]):
            if target == start:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return None


def imports_against_the_layers(sources: Sequence[Source]) -> list[str]:
    """Imports of a layer further up, or of the tests."""
    order = [*LAYERS, "tests"]
    return [
        f"{found.place} imports {found.target}: {source.top} may only import "
        f"{', '.join(order[: order.index(source.top) + 1])}"
        for source in sources
        for found in imports_of(source)
        if (top := found.module.partition(".")[0]) in order
        and order.index(top) > order.index(source.top)
    ]


def imports_of_foreign_privates(sources: Sequence[Source]) -> list[str]:
    """Imports of a module or a name with a leading underscore from another package."""
    return [
        f"{found.place} imports {found.target}: an underscore means private to "
        f"{found.module.partition('.')[0]}"
        for source in sources
        for found in imports_of(source)
        if (top := found.module.partition(".")[0]) in LAYERS
        and top != source.top
        and any(_is_private(part) for part in found.target.split("."))
    ]


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def imports_of_the_own_facade(sources: Sequence[Source]) -> list[str]:
    """Find imports of exported names from a package that the importing module belongs to.

    `from actors import timers` takes a module, not an exported name, and is fine.
    """
    known = {source.name for source in sources}
    packages = {source.name for source in sources if source.is_package}
    return [
        f"{found.place} imports {found.target}: inside {found.module} import the module that "
        f"defines the name, for example `from {found.module}.some_module import some_name`"
        for source in sources
        for found in imports_of(source)
        if found.module in packages and source.name.startswith(f"{found.module}.")
        if found.name is None or found.target not in known
    ]


def imports_of_impure_modules(sources: Sequence[Source]) -> list[str]:
    """Return the imports by pure modules of things that callers should pass."""
    return [
        f"{found.place} imports {found.target}: {source.name} is pure; take the values from there "
        "as arguments"
        for source in sources
        if source.name.startswith(tuple(f"{name}." for name in PURE)) or source.name in PURE
        for found in imports_of(source)
        if found.module.partition(".")[0] in IMPURE
    ]


def imports_of_undeclared_packages(
    sources: Sequence[Source],
    declared: set[str],
    distributions: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return the imports of packages that are no dependency in pyproject.toml.

    Args:
        sources: the modules to look at.
        declared: names of distributions, in lower case.
        distributions: for each import name the distributions that install it.
    """
    # Some distributions write their name with an underscore, and others with a hyphen. Both mean the same.
    wanted = {name.replace("_", "-") for name in declared}
    provided = {
        name
        for name, owners in distributions.items()
        if wanted & {owner.lower().replace("_", "-") for owner in owners}
    }
    allowed = provided | set(LAYERS) | sys.stdlib_module_names
    return [
        f"{found.place} imports {found.target}, which no dependency in pyproject.toml provides"
        for source in sources
        for found in imports_of(source)
        if found.module.partition(".")[0] not in allowed
    ]
