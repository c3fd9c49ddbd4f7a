"""The topics of a configuration, each with what it is created with: one place for whoever comes first."""

from lmlp_stream.broker.log import TopicSpec
from lmlp_stream.config import LogConfig


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
