"""The AsyncAPI 3 document of the topics: who writes what where, for people and tools that never read our code."""

import json
from importlib.metadata import version
from typing import Any

from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import LogConfig
from lmlp_stream.wire.announcement import SNAPSHOT_ANNOUNCEMENT
from lmlp_stream.wire.dead_letter import DEAD_LETTER, HEADER_MEANINGS
from lmlp_stream.wire.envelope import CONTENT_TYPE, Envelope
from lmlp_stream.wire.record import LABELLED_STRUCTURE
from lmlp_stream.wire.request import LABEL_REQUEST

_BINDING = "0.5.0"
_SCHEMA_FORMAT = "application/schema+json;version=draft-07"


def asyncapi_document() -> dict[str, Any]:
    """AsyncAPI 3 of the topics at their default names and settings."""
    log = LogConfig()
    channels = {
        "structures": (log.structures, LABELLED_STRUCTURE, "Group of the structure."),
        "requests": (log.requests, LABEL_REQUEST, "Id of the request."),
        "snapshots": (log.snapshots, SNAPSHOT_ANNOUNCEMENT, "Name of the learner, a slash, id of the snapshot."),
        "deadLetters": (log.dead_letters, DEAD_LETTER, "Key of the refused message."),
    }
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "lmlp_stream",
            "version": version("lmlp-stream"),
            "description": "Labelled structures flow to a learner, snapshots of its potential flow to simulations, and "
            "the structures these are unsure of flow back to be labelled. Messages are msgpack maps. Every number is "
            "in eV, Å, eV/Å, eV/Å³ or e. The first part of each topic name is log.prefix of the configuration.",
            "license": {"name": "BSD-3-Clause"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {name: _channel(address, envelope, log) for name, (address, envelope, _) in channels.items()},
        "operations": {
            "publishStructure": _operation("send", "structures", "A job farm or label worker publishes a label."),
            "learnStructure": _operation("receive", "structures", "The learner learns each label once."),
            "announceSnapshot": _operation("send", "snapshots", "The learner announces what can be loaded."),
            "followSnapshots": _operation("receive", "snapshots", "A simulation takes a newer potential."),
            "requestLabel": _operation("send", "requests", "A simulation asks about a structure it is unsure of."),
            "answerRequest": _operation("receive", "requests", "A label worker computes the label."),
            "refuseMessage": _operation("send", "deadLetters", "The learner refuses a message, with the reason."),
        },
        "components": {"messages": {e.name: _message(e, key) for _, e, key in channels.values()}},
    }


def _channel(address: str, envelope: Envelope, log: LogConfig) -> dict[str, Any]:
    topic = next(spec for spec in topic_specs(log) if spec.name == address)
    return {
        "address": address,
        "description": envelope.meaning,
        "messages": {envelope.name: {"$ref": f"#/components/messages/{envelope.name}"}},
        "bindings": {
            "kafka": {
                "partitions": topic.n_partitions,
                "replicas": topic.replication_factor,
                "topicConfiguration": {
                    "cleanup.policy": ["compact" if topic.compacted else "delete"],
                    "retention.ms": -1,
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _message(envelope: Envelope, key: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": f"{envelope.name}/{envelope.version}",
        "contentType": CONTENT_TYPE,
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"./{envelope.schema_file}"}},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": _BINDING}},
    }
    if envelope is DEAD_LETTER:
        properties = {name: {"type": "string", "description": text} for name, text in HEADER_MEANINGS.items()}
        message["headers"] = {"type": "object", "properties": properties}
    return message


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def as_yaml(tree: dict[str, Any], indent: str = "") -> str:
    """A tree of maps, lists and scalars as YAML in block style, scalars written as JSON writes them."""
    lines = []
    for key, value in tree.items():
        name = key if key.replace("_", "a").isalnum() else json.dumps(key)
        if isinstance(value, dict):
            lines.append(f"{indent}{name}:\n{as_yaml(value, indent + '  ')}")
        else:
            lines.append(f"{indent}{name}: {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines)
