"""Ctrl-C, SIGTERM and SIGHUP as a request, and the handlers before them put back."""

import signal
import subprocess
import sys
import threading

import pytest

from hvax.training.interrupt import on_interrupt

SIGNALS = [
    (signal.SIGINT, "interrupted", KeyboardInterrupt),
    (signal.SIGTERM, "terminated", SystemExit),
    (signal.SIGHUP, "terminated", SystemExit),
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


def test_unasked_ctrl_c_is_put_off_and_raised_at_the_end():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = []
    with pytest.raises(KeyboardInterrupt), on_interrupt(handle_signals=False) as interrupt:
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is mine
        signal.raise_signal(signal.SIGINT)
        steps.append(interrupt.ended)
    assert steps == ["interrupted"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt), on_interrupt(handle_signals=False):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        steps.append("not reached")
    assert len(steps) == 1


def test_unasked_another_handler_of_ctrl_c_stays():
    with on_interrupt(handle_signals=False):
        assert signal.getsignal(signal.SIGINT) is mine


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def work():
        with on_interrupt() as interrupt:
            seen.append((interrupt.ended, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, mine)]


def test_an_ignored_hangup_stays_ignored():
    """As under nohup, whose runs outlive the terminal; the others are asked for by somebody."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with on_interrupt() as interrupt:
        signal.raise_signal(signal.SIGHUP)
        assert interrupt.ended is None
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.ended == "terminated"
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.parametrize(("code", "whole"), [(0, True), (2, True), (130, False), (143, False)])
def test_after_a_signal_the_program_ends_without_pythons_own_end(code, whole):
    """What it has printed is there; what runs at exit is not waited for, as a compilation that was
    broken off crashes there: 1 of 12 double Ctrl-C within a compilation, before."""
    program = (
        "import atexit, sys; from hvax.training.interrupt import leave; sys.stdout.write('said ');"
        f"atexit.register(print, 'whole'); leave({code})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.split() == ["said", "whole"][: 1 + whole]
