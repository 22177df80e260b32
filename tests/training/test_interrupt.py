"""Ctrl-C as a request, and the handler before it put back."""

import signal
import threading

import pytest

from hvax.training.interrupt import on_interrupt


@pytest.fixture(autouse=True)
def handler():
    """A handler of the test's own, so that what is put back is seen."""
    before = signal.signal(signal.SIGINT, mine)
    yield
    signal.signal(signal.SIGINT, before)


def mine(number, frame):
    raise AssertionError("the handler from outside was called")


def test_the_first_is_a_request_and_the_second_an_end():
    with pytest.raises(KeyboardInterrupt), on_interrupt() as interrupt:
        assert not interrupt.requested
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is mine


def test_the_handler_is_put_back_after_an_error_too():
    with pytest.raises(RuntimeError), on_interrupt():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) is mine


def test_a_request_is_forgotten_at_the_end():
    with on_interrupt():
        signal.raise_signal(signal.SIGINT)
    with on_interrupt() as interrupt:
        assert not interrupt.requested


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def work():
        with on_interrupt() as interrupt:
            seen.append((interrupt.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, mine)]
