"""Settings of Kafka that are plain values: how topics are created, how clients log in."""

import ssl
from collections.abc import Mapping

from lmlp_stream.broker.log import MAX_MESSAGE_BYTES, TopicSpec
from lmlp_stream.errors import ConfigError

REQUEST_BYTES = MAX_MESSAGE_BYTES + 2**20
"""Largest batch a broker takes, bytes: a message and its frame; `deploy/kafka/server.properties` says the same."""

CA = "LMLP_KAFKA_TLS_CA"
USERNAME = "LMLP_KAFKA_SASL_USERNAME"
PASSWORD = "LMLP_KAFKA_SASL_PASSWORD"  # noqa: S105 - the name of a variable
MECHANISM = "LMLP_KAFKA_SASL_MECHANISM"
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256")

Settings = dict[str, object]


class Secret(str):
    """A text whose `repr` does not show it: kafka-python writes its settings into its log at level DEBUG."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(secret)'"


def security(environ: Mapping[str, str]) -> Settings:
    """kafka-python's settings for TLS and SASL, which come from the environment because they are secrets.

    LMLP_KAFKA_TLS_CA names the file of the certificate authority; LMLP_KAFKA_SASL_USERNAME and
    LMLP_KAFKA_SASL_PASSWORD log in by LMLP_KAFKA_SASL_MECHANISM, SCRAM-SHA-512 (default) or SCRAM-SHA-256.

    Raises:
        ConfigError: The file is no certificate, half of the login is missing, or the mechanism is another.
    """
    settings: Settings = {}
    authority, username, password = (environ.get(name, "") for name in (CA, USERNAME, PASSWORD))
    if authority:
        _check_authority(authority)
        settings["ssl_cafile"] = authority
    if bool(username) != bool(password):
        missing, given = (PASSWORD, USERNAME) if username else (USERNAME, PASSWORD)
        raise ConfigError(f"the environment has {given} and no {missing}; set both to log in to Kafka, or none")
    if username:
        mechanism = environ.get(MECHANISM, MECHANISMS[0])
        if mechanism not in MECHANISMS:
            raise ConfigError(f"{MECHANISM} = {mechanism!r} is none of {', '.join(MECHANISMS)}")
        settings |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": username,
            "sasl_plain_password": Secret(password),
        }
    if settings:
        protocols = {(True, True): "SASL_SSL", (True, False): "SSL", (False, True): "SASL_PLAINTEXT"}
        settings["security_protocol"] = protocols[bool(authority), bool(username)]
    return settings


def _check_authority(path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ConfigError(
            f"{CA} = {path!r} cannot be used: {error.strerror or error}; name a PEM file of the certificate authority"
        ) from error


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
