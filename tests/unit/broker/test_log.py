import pytest

from lmlp_stream.broker.log import MAX_MESSAGE_BYTES, Message, Partition, check_size, in_order, partition_of
from lmlp_stream.errors import BrokerError


def message(index: int, offset: int) -> Message:
    return Message(Partition("t", index), offset, b"", b"", (), 0)


def test_keys_stay_in_their_partitions_for_ever() -> None:
    """CRC-32 (ISO-HDLC) of the key modulo the number; the check value of '123456789' is 0xCBF43926."""
    assert partition_of(b"123456789", 2**32) == 0xCBF43926
    assert [partition_of(b"trajectory-7", n) for n in (1, 2, 3, 16)] == [0, 0, 1, 6]


def test_keys_spread_over_all_partitions() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[partition_of(b"group-%d" % number, 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1200


def test_the_lowest_offset_then_the_lowest_partition_comes_first() -> None:
    messages = [message(1, 0), message(1, 1), message(0, 1), message(0, 5), message(2, 0)]
    ordered = in_order(messages, 4)
    assert [(item.partition.index, item.offset) for item in ordered] == [(1, 0), (2, 0), (0, 1), (1, 1)]


def test_keys_and_headers_count_as_size() -> None:
    assert check_size("t", b"key", b"value", (("ä", b"12"),)) == 3 + 5 + 2 + 2
    with pytest.raises(BrokerError, match=f"a message of {MAX_MESSAGE_BYTES + 1} bytes for t"):
        check_size("t", b"k", bytes(MAX_MESSAGE_BYTES), ())
