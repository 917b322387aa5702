"""All mutants."""

from tests.simulation.mutants.in_actors import IN_ACTORS
from tests.simulation.mutants.in_connections import IN_CONNECTIONS
from tests.simulation.mutants.in_entities import IN_ENTITIES
from tests.simulation.mutants.in_supervision import IN_SUPERVISION
from tests.simulation.mutants.in_topics import IN_TOPICS

__all__ = ["MUTANTS"]

MUTANTS = (*IN_ACTORS, *IN_SUPERVISION, *IN_CONNECTIONS, *IN_TOPICS, *IN_ENTITIES)
