import contextlib
import os
import signal
import subprocess
import sys

import pytest

from flexres_tune.cli import EXIT_INTERRUPTED
from flexres_tune.sweep import signals as module
from flexres_tune.sweep.signals import Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_is_noted_and_its_old_handler_comes_back(number):
    before = signal.getsignal(number)
    with contextlib.ExitStack() as stack:
        if before == signal.SIG_IGN:  # under nohup SIGHUP is left alone
            signal.signal(number, signal.SIG_DFL)
            stack.callback(signal.signal, number, before)
        expected = signal.getsignal(number)
        with Signals() as signals:
            assert not signals.requested and signals.seconds_since == 0
            os.kill(os.getpid(), number)
            assert signals.requested and signals.seconds_since > 0
        assert signal.getsignal(number) == expected


def test_first_signal_ends_a_step_that_cannot_be_interrupted_and_prints_the_message():
    code = (
        "import os, signal\nfrom flexres_tune.sweep.signals import Signals\n"
        "with Signals() as signals, signals.exit_on_first('interrupted'):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    print('not reached')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (EXIT_INTERRUPTED, "interrupted\n")


def test_first_signal_ends_a_step_even_if_the_main_thread_never_returns_from_c():
    """Ray waits in C for its processes while it starts."""
    code = (
        "import ctypes, os, signal, threading\nfrom flexres_tune.sweep.signals import Signals\n"
        "with Signals() as signals, signals.exit_on_first('interrupted'):\n"
        "    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)\n"
        "    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()\n"
        "    libc.pthread_mutex_lock(mutex)\n    libc.pthread_mutex_lock(mutex)\n    print('not reached')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (EXIT_INTERRUPTED, "interrupted\n")


def test_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal\nfrom flexres_tune.sweep.signals import Signals\n"
        "with Signals():\n    os.kill(os.getpid(), signal.SIGINT)\n    print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    print('not reached')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (EXIT_INTERRUPTED, "first\n")


def test_process_that_is_not_ours_to_end_gets_keyboard_interrupt():
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="to resume"), Signals(ends_process=False) as signals:
        with signals.exit_on_first("to resume: ..."):
            os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")
    with pytest.raises(KeyboardInterrupt), Signals(ends_process=False) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.requested
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")
    assert signal.getsignal(signal.SIGINT) is handler


def test_times_of_an_interruption_follow_each_other():
    assert module.STOP_PERIOD_S < module.SAVE_S < module.WIND_DOWN_S
    assert module.REMOTE_STOP_PERIOD_S < module.REMOTE_SAVE_S < module.WIND_DOWN_S
    assert module.REPORT_WITHIN_S < module.WIND_DOWN_S < 10
