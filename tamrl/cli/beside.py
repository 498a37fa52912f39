"""Read a user's towers in one process while another loads PyTorch, which takes as long."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any


def beside(function: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], Any]:
    """Call a function in a process of its own; return what waits for its result, or its exception.

    Where a process cannot be copied (`_may_fork`) the function is called when its result is asked
    for. OSError if the system ends the process, as it does where memory runs out.
    """
    if not _may_fork():
        return partial(function, *args, **options)
    context = multiprocessing.get_context("fork")
    answer, sender = context.Pipe(duplex=False)
    call = partial(function, *args, **options)
    child = context.Process(target=_send, args=(sender, call), daemon=True)  # ends with this one
    child.start()
    sender.close()  # so that its end is seen

    def result() -> Any:
        try:
            value = answer.recv()
        except EOFError as error:
            child.join()
            what = f"the process that read the towers was ended ({child.exitcode})"
            raise OSError(f"{what}; does it have the memory?") from error
        if isinstance(value, Exception):
            raise value
        return value

    return result


def _may_fork() -> bool:
    """Whether a copy of this process can work on: Linux, two cores, no threads, no PyTorch yet."""
    several = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1
    return several and threading.active_count() == 1 and "torch" not in sys.modules


def _send(sender: Connection, call: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: without a word, the other speaks
    try:
        value = call()
    except Exception as error:  # whatever it is: raised where the result is asked for
        value = error
    sender.send(value)
