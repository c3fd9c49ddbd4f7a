"""Settings of Kafka that are plain values: how topics are created, how clients log in."""

from collections.abc import Mapping

from lmlp_stream.broker.log import MAX_MESSAGE_BYTES, TopicSpec

REQUEST_BYTES = MAX_MESSAGE_BYTES + 2**20
"""Largest batch a broker takes, bytes: a message and its frame; `deploy/kafka/server.properties` says the same."""

Settings = dict[str, object]


def security(environ: Mapping[str, str]) -> Settings:
    """kafka-python's settings for TLS and SASL, which come from the environment because they are secrets.

    LMLP_KAFKA_TLS_CA names the file of the certificate authority; LMLP_KAFKA_SASL_USERNAME and
    LMLP_KAFKA_SASL_PASSWORD log in by LMLP_KAFKA_SASL_MECHANISM (default SCRAM-SHA-512).
    """
    settings: Settings = {}
    authority = environ.get("LMLP_KAFKA_TLS_CA", "")
    username = environ.get("LMLP_KAFKA_SASL_USERNAME", "")
    if authority:
        settings["ssl_cafile"] = authority
    if username:
        settings["sasl_mechanism"] = environ.get("LMLP_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
        settings["sasl_plain_username"] = username
        settings["sasl_plain_password"] = environ.get("LMLP_KAFKA_SASL_PASSWORD", "")
    if settings:
        protocols = {(True, True): "SASL_SSL", (True, False): "SSL", (False, True): "SASL_PLAINTEXT"}
        settings["security_protocol"] = protocols[bool(authority), bool(username)]
    return settings


def creation(spec: TopicSpec) -> dict[str, object]:
    """What a topic is created with: kept for ever, or compacted; written to all copies but one before it counts."""
    return {
        "num_partitions": spec.n_partitions,
        "replication_factor": spec.replication_factor,
        "configs": {
            "cleanup.policy": "compact" if spec.compacted else "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "max.message.bytes": str(REQUEST_BYTES),
            "min.insync.replicas": str(max(1, spec.replication_factor - 1)),
        },
    }
