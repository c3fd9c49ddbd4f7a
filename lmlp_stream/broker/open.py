"""Opens a log by its URL."""

import os
import re
from pathlib import Path

from lmlp_stream.broker.kafka.settings import PASSWORD, USERNAME, security
from lmlp_stream.broker.log import Log
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.sqlite import SqliteLog
from lmlp_stream.errors import BrokerError, ConfigError

_MEMORY: dict[str, MemoryLog] = {}
_SERVER = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?")


def open_log(url: str, *, client: str, create: bool = True) -> Log:
    """The log at `sqlite:PATH`, `kafka://HOST:PORT,...` or `memory:` (one per process and URL).

    Args:
        url: The log's URL.
        client: Name under which a broker's own logs and metrics show this program.
        create: Whether an SQLite file that is not there is made; who only reads refuses a mistyped path.

    Raises:
        ConfigError: The URL is none of these.
        BrokerError: The log cannot be reached, or is not there.
    """
    check_url(url)
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        return _MEMORY.setdefault(url, MemoryLog())
    if scheme == "sqlite":
        path = sqlite_path(rest)
        if not create and not path.exists():
            raise BrokerError(
                f"there is no log at {path.absolute()}; `lmlp-stream feed` or `lmlp-stream learn` makes it, "
                "or set log.url to the one you mean"
            )
        return SqliteLog(path)
    from lmlp_stream.broker.kafka.log import KafkaLog

    return KafkaLog(kafka_servers(rest), client=client, security=security(os.environ))


def check_url(url: str) -> None:
    """Refuse what names no log; nothing is opened.

    Raises:
        ConfigError: The URL is none of those that `open_log` opens.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        sqlite_path(rest)
    elif scheme == "kafka":
        kafka_servers(rest)
    elif scheme != "memory":
        raise ConfigError(f"log.url = {url!r} is not of the form sqlite:PATH, kafka://HOST:PORT,... or memory:")


def sqlite_path(rest: str) -> Path:
    """The file that `sqlite:{rest}` names.

    Raises:
        ConfigError: There is no path, or it begins like a host name.
    """
    if not rest or (rest.startswith("//") and not rest.startswith("///")):
        raise ConfigError(f"log.url = 'sqlite:{rest}' names no file: write sqlite:PATH, such as sqlite:lmlp-stream.db")
    return Path(rest).expanduser()


def kafka_servers(rest: str) -> tuple[str, ...]:
    """The brokers that `kafka:{rest}` names, each as HOST or HOST:PORT.

    Raises:
        ConfigError: One of them is not an address.
    """
    if "@" in rest:
        raise ConfigError(
            f"log.url = 'kafka://...' holds an @; a login never stands in a URL: set {USERNAME} and {PASSWORD}"
        )
    servers = tuple(rest.removeprefix("//").rstrip("/").split(","))
    for server in servers:
        if not rest.startswith("//") or not _SERVER.fullmatch(server):
            raise ConfigError(
                f"log.url = 'kafka:{rest}' is not a list of brokers: {server!r} is no address; "
                f"write kafka://HOST:PORT,HOST:PORT"
            )
    return servers
