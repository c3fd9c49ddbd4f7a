#!/usr/bin/env python3
"""Gives a user of a secured Kafka exactly what a role needs; run it as the administrator.

    grant.py ROLE USER CONFIG

ROLE is farm, labeller, learner, simulator, or none (takes everything away, the password too). CONFIG is the learner's
TOML file: it says where the broker is and what the topics are called. The administrator's own login is in the
environment, as for every client (LMLP_KAFKA_TLS_CA, LMLP_KAFKA_SASL_USERNAME, LMLP_KAFKA_SASL_PASSWORD). With
LMLP_KAFKA_NEW_PASSWORD the user gets that password; without it, only the grants change.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from kafka.errors import NoError

from lmlp_stream.broker.kafka.connection import Connection
from lmlp_stream.broker.kafka.settings import security
from lmlp_stream.broker.open import kafka_servers
from lmlp_stream.config import Config, load_config
from lmlp_stream.errors import LmlpStreamError, UsageError

NEW_PASSWORD = "LMLP_KAFKA_NEW_PASSWORD"  # noqa: S105 - the name of a variable
READ, WRITE, CREATE, DESCRIBE = (ACLOperation[name] for name in ("READ", "WRITE", "CREATE", "DESCRIBE"))

Grants = Mapping[str, tuple[ACLOperation, ...]]


def topics_of(role: str, config: Config) -> Grants:
    """What a role may do with each topic, besides seeing that the topics of the prefix exist and how far they reach."""
    log = config.log
    roles: dict[str, Grants] = {
        "farm": {log.structures: (WRITE,), log.requests: (READ,)},
        "labeller": {log.structures: (READ, WRITE), log.requests: (READ,), log.dead_letters: (READ, WRITE)},
        "learner": {
            log.structures: (READ, CREATE),
            log.requests: (READ, CREATE),
            log.snapshots: (READ, WRITE, CREATE),
            log.dead_letters: (READ, WRITE, CREATE),
            log.journal(config.name): (READ, WRITE, CREATE),
        },
        "simulator": {log.snapshots: (READ,), log.requests: (WRITE,)},
        "none": {},
    }
    if role not in roles:
        raise UsageError(f"the role {role!r} is none of {', '.join(roles)}")
    return roles[role]


def acls_of(role: str, user: str, config: Config) -> Iterator[ACL]:
    """The access rules of a user in a role."""
    for topic, operations in topics_of(role, config).items():
        for operation in operations:
            yield _acl(user, operation, ResourcePattern(ResourceType.TOPIC, topic))
    if role != "none":
        prefix = ResourcePattern(ResourceType.TOPIC, f"{config.log.prefix}.", ACLResourcePatternType.PREFIXED)
        yield _acl(user, DESCRIBE, prefix)
    if role == "learner":
        yield _acl(user, READ, ResourcePattern(ResourceType.GROUP, config.name))


def _acl(user: str, operation: ACLOperation, pattern: ResourcePattern) -> ACL:
    return ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, pattern)


def grant(role: str, user: str, config: Config) -> None:
    """Give a user what the role needs, then take away what it had besides."""
    wanted = set(acls_of(role, user, config))
    connection = Connection(
        kafka_servers(config.log.url.removeprefix("kafka:")), client="grant", security=security(os.environ)
    )
    admin = connection.admin
    try:
        with connection.plainly(f"make {user} a {role}"):
            had, _ = admin.describe_acls(_everything(user))
            refused = []
            if wanted - set(had):
                refused += admin.create_acls(list(wanted - set(had)))["failed"]
            if set(had) - wanted:
                deletions = admin.delete_acls(list(set(had) - wanted))
                refused += [why for _, _, why in deletions if why is not NoError]
            refused += _set_password(admin, role, user, os.environ.get(NEW_PASSWORD, ""))
    finally:
        admin.close()
    if refused:
        raise UsageError(
            f"Kafka did not make {user} a {role} ({refused[0]}); is the login in the environment an administrator's?"
        )


def _everything(user: str) -> ACLFilter:
    pattern = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    return ACLFilter(f"User:{user}", None, ACLOperation.ANY, ACLPermissionType.ANY, pattern)


def _set_password(admin: KafkaAdminClient, role: str, user: str, password: str) -> list[str]:
    mechanism = ScramMechanism.SCRAM_SHA_512
    if role == "none":
        admin.alter_user_scram_credentials([UserScramCredentialDeletion(user, mechanism)])
        return []
    if not password:
        return []
    refused = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, mechanism, password)])[user]
    return ["the password was not taken"] if refused else []


def main() -> int:
    """Run the command; 0 when it is done."""
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    role, user, config = sys.argv[1:]
    try:
        grant(role, user, load_config(Path(config)))
    except LmlpStreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{user}: {role}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
