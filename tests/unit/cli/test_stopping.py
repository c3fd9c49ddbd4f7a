import signal

import pytest
import typer

from lmlp_stream.cli.stopping import INTERRUPTED, TWICE_S, stopping


def test_sigterm_asks_to_stop_and_the_command_is_done(capsys):
    with stopping("the tick") as stopped:
        before = stopped()
        signal.raise_signal(signal.SIGTERM)
        after = stopped()

    assert (before, after) == (False, True)
    assert capsys.readouterr().err == "SIGTERM: finishing the tick, then stopping\n"


def interrupted_at(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    """Send SIGINT at these times, s, within a block that is told to stop."""
    with stopping("the tick") as stopped:
        for now in times:
            monkeypatch.setattr("time.monotonic", lambda now=now: now)
            signal.raise_signal(signal.SIGINT)
        monkeypatch.undo()
        assert stopped()
        typer.echo("the block ended")


def test_ctrl_c_lets_the_block_end_and_then_exits_with_130(monkeypatch, capsys):
    with pytest.raises(typer.Exit) as end:
        interrupted_at(monkeypatch, 1.0)

    assert end.value.exit_code == INTERRUPTED
    assert capsys.readouterr().out == "the block ended\n"


def test_a_signal_that_is_sent_twice_at_once_is_one_signal(monkeypatch, capsys):
    with pytest.raises(typer.Exit):
        interrupted_at(monkeypatch, 1.0, 1.0 + TWICE_S / 2)

    assert capsys.readouterr().err.count("finishing") == 1


def test_a_second_ctrl_c_insists(monkeypatch, capsys):
    with pytest.raises(KeyboardInterrupt):
        interrupted_at(monkeypatch, 1.0, 1.0 + TWICE_S * 2)

    assert capsys.readouterr().out == ""


def test_the_handlers_from_before_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with stopping("the tick"):
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before
