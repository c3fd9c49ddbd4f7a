"""Appends to topics of a cluster: acknowledged by all in-sync copies, once each, in order."""

import threading
import time
from contextlib import suppress

from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from lmlp_stream.broker.kafka.connection import OUTAGE_S, REQUEST_S, Connection
from lmlp_stream.broker.kafka.settings import REQUEST_BYTES
from lmlp_stream.broker.log import Headers, check_size, missing_topic, partition_of

_MAX_IN_FLIGHT_BYTES = 32 * 2**20


class KafkaSink:
    """Appends to topics of a cluster, with at most 32 MiB on the way. Threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._n_partitions: dict[str, int] = {}
        self._producer: KafkaProducer | None = None
        self._in_flight_bytes = 0
        self._refused: list[BaseException] = []
        self._settled = threading.Condition()

    def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers = ()) -> None:
        """Append to the partition of the key; waits while too much is on the way."""
        size = check_size(topic, key, value, headers)
        index = partition_of(key, self._count(topic))
        with self._settled:
            while self._in_flight_bytes and self._in_flight_bytes + size > _MAX_IN_FLIGHT_BYTES:
                self._settled.wait()
        self._raise_refused()
        with self._connection.plainly(f"accept a message for {topic}"):
            future = self._connection.patiently(
                lambda: self._started().send(
                    topic, value, key, list(headers), partition=index, timestamp_ms=int(time.time() * 1000)
                )
            )
        with self._settled:
            self._in_flight_bytes += size
        future.add_callback(lambda _: self._settle(size, None))
        future.add_errback(lambda error: self._settle(size, error))

    def flush(self) -> None:
        """Return when every in-sync copy has everything sent."""
        if self._producer is not None:
            with self._connection.plainly("accept what was sent"):
                self._producer.flush()
            with self._settled:
                self._settled.wait_for(lambda: self._in_flight_bytes == 0)
        self._raise_refused()

    def close(self) -> None:
        """Flush and close the connection."""
        try:
            self.flush()
        finally:
            self._drop_producer()

    def _count(self, topic: str) -> int:
        if topic not in self._n_partitions:
            n_partitions = len(self._connection.partitions(topic))
            if not n_partitions:
                raise missing_topic(topic)
            self._n_partitions[topic] = n_partitions
        return self._n_partitions[topic]

    def _settle(self, size: int, error: BaseException | None) -> None:
        with self._settled:
            self._in_flight_bytes -= size
            if error is not None:
                self._refused.append(error)
            self._settled.notify_all()

    def _raise_refused(self) -> None:
        """An idempotent producer that met one refusal refuses everything after it, so it is made anew."""
        if self._refused:
            self._drop_producer()
            with self._settled:
                refused, self._refused = self._refused, []
            with self._connection.plainly(f"accept {len(refused)} messages"):
                raise refused[0]

    def _started(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = self._new_producer()
        return self._producer

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaTimeoutError):
                producer.close(timeout=REQUEST_S)

    def _new_producer(self) -> KafkaProducer:
        return self._connection.new_client(
            KafkaProducer,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=5,
            batch_size=128 * 2**10,
            max_request_size=REQUEST_BYTES,
            max_block_ms=int(REQUEST_S * 1000),
            delivery_timeout_ms=int(OUTAGE_S * 1000),
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
