"""Ctrl-C and SIGTERM as a request, and the handlers before them put back."""

import signal
import threading

import pytest

from hvax.training.interrupt import on_interrupt

SIGNALS = [
    (signal.SIGINT, "interrupted", KeyboardInterrupt),
    (signal.SIGTERM, "terminated", SystemExit),
]


@pytest.fixture(autouse=True)
def handler():
    """A handler of the test's own, so that what is put back is seen."""
    before = {number: signal.signal(number, mine) for number, _, _ in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def mine(number, frame):
    raise AssertionError("the handler from outside was called")


@pytest.mark.parametrize(("number", "ended", "error"), SIGNALS)
def test_the_first_is_a_request_and_the_second_an_end(number, ended, error):
    with pytest.raises(error) as raised, on_interrupt() as interrupt:
        assert interrupt.ended is None
        signal.raise_signal(number)
        assert interrupt.ended == ended
        signal.raise_signal(number)
    assert signal.getsignal(number) is mine
    assert error is KeyboardInterrupt or raised.value.code == 143


def test_the_handler_is_put_back_after_an_error_too():
    with pytest.raises(RuntimeError), on_interrupt():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) is mine


def test_a_request_is_forgotten_at_the_end():
    with on_interrupt():
        signal.raise_signal(signal.SIGINT)
    with on_interrupt() as interrupt:
        assert interrupt.ended is None


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def work():
        with on_interrupt() as interrupt:
            seen.append((interrupt.ended, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, mine)]
