"""The topics of a configuration, each with what it is created with: one place for whoever comes first."""

import logging

from lmlp_stream.broker.log import Log, TopicSpec
from lmlp_stream.config import LogConfig

logger = logging.getLogger(__name__)


def create_topics(log: Log, config: LogConfig, name: str = "") -> None:
    """Create what `topic_specs` lists and is not there; a topic that is there keeps its partitions, with a warning.

    Raises:
        BrokerError: The log cannot be reached, or refuses.
    """
    log.ensure(topic_specs(config, name))
    n_partitions = len(log.partitions(config.structures))
    if "partitions" in config.model_fields_set and n_partitions != config.partitions:
        logger.warning(
            "log.partitions = %d changes nothing: %s was made with %d; set log.partitions to that, or another "
            "log.prefix for a new stream",
            config.partitions,
            config.structures,
            n_partitions,
        )


def topic_specs(log: LogConfig, name: str = "") -> tuple[TopicSpec, ...]:
    """The topics that `Log.ensure` creates: structures, requests, snapshots, dead letters and a journal.

    Only structures have several partitions; only snapshots are compacted, everything else is kept for ever.

    Args:
        log: Names, partitions and copies.
        name: The learner whose journal is one of them; empty: no journal.
    """
    copies = log.replication_factor
    shared = (
        TopicSpec(log.structures, n_partitions=log.partitions, replication_factor=copies),
        TopicSpec(log.requests, replication_factor=copies),
        TopicSpec(log.snapshots, compacted=True, replication_factor=copies),
        TopicSpec(log.dead_letters, replication_factor=copies),
    )
    return (*shared, TopicSpec(log.journal(name), replication_factor=copies)) if name else shared
