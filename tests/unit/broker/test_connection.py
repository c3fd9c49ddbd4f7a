import pytest
from kafka.errors import KafkaError, NodeNotReadyError, TopicAuthorizationFailedError, UnknownBrokerIdError

from lmlp_stream.broker.kafka.connection import Connection


@pytest.mark.parametrize("error", [NodeNotReadyError(1), UnknownBrokerIdError(-1)])
def test_what_a_broker_that_is_away_makes_fail_is_asked_again(error: KafkaError):
    answers = [error, error, "here"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, KafkaError):
            raise answer
        return answer

    assert object.__new__(Connection).patiently(ask) == "here"


def test_what_no_patience_mends_is_raised_at_once():
    asked = []

    def ask() -> None:
        asked.append(1)
        raise TopicAuthorizationFailedError

    with pytest.raises(TopicAuthorizationFailedError):
        object.__new__(Connection).patiently(ask)
    assert asked == [1]
