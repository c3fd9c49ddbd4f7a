"""Dead letters: raw bytes, address, reason; never too large for the log."""

from dataclasses import replace

from lmlp_stream.wire.dead_letter import (
    HEADER_MEANINGS,
    MAX_DETAIL,
    MAX_KEPT_BYTES,
    MAX_KEY_BYTES,
    DeadLetter,
    dead_letter_headers,
    decode_dead_letter,
    encode_dead_letter,
)
from lmlp_stream.wire.examples import dead_letter
from lmlp_stream.wire.record import Reason, Rejection


def test_the_raw_bytes_and_the_address_come_back() -> None:
    assert decode_dead_letter(encode_dead_letter(dead_letter())) == dead_letter()


def test_an_enormous_message_is_cut_and_says_so() -> None:
    enormous = replace(
        dead_letter(), value=b"x" * (MAX_KEPT_BYTES + 5), key=b"k" * 10_000, detail="d" * 10_000, missing_bytes=2
    )
    letter = decode_dead_letter(encode_dead_letter(enormous))
    assert isinstance(letter, DeadLetter)
    assert (len(letter.value), letter.missing_bytes) == (MAX_KEPT_BYTES, 7)
    assert (len(letter.key), len(letter.detail)) == (MAX_KEY_BYTES, MAX_DETAIL)


def test_a_reason_of_a_newer_learner_is_read() -> None:
    letter = replace(dead_letter(), reason="invented_later")
    assert decode_dead_letter(encode_dead_letter(letter)) == letter


def test_headers_are_spelled_as_kafka_connect_spells_them() -> None:
    headers = dict(dead_letter_headers(dead_letter()))
    assert set(headers) == set(HEADER_MEANINGS)
    assert headers["__connect.errors.topic"] == b"lmlp.structures.v1"
    assert headers["__connect.errors.partition"] == b"0"
    assert headers["__connect.errors.offset"] == b"17"
    assert headers["__connect.errors.timestamp"] == str(dead_letter().timestamp_ms).encode()
    assert headers["__connect.errors.exception.class.name"] == b"not_msgpack"
    assert headers["__connect.errors.exception.message"] == dead_letter().detail.encode()


def test_what_is_no_dead_letter_is_refused() -> None:
    rejection = decode_dead_letter(b"\xc1")
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.NOT_MSGPACK
