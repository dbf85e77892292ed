"""Other processes for tests: forked, so that they need not import everything again."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from typing import IO

_FORK = multiprocessing.get_context("fork")
Other = tuple[BaseProcess, IO[str]]

Say = Callable[[object], object]


@contextmanager
def others(*programs: Callable[[Say], None]) -> Iterator[list[Other]]:
    """Each program in a process of its own, with the lines that it says; killed at the end.

    They begin at the same instant. One that fails says its traceback.
    """
    start = _FORK.Barrier(len(programs))
    running: list[Other] = []
    for program in programs:
        reading, writing = os.pipe()
        process = _FORK.Process(target=_run, args=(program, start, reading, writing), daemon=True)
        process.start()
        os.close(writing)
        running.append((process, os.fdopen(reading)))
    try:
        yield running
    finally:
        for process, lines in running:
            process.kill()
            process.join()
            lines.close()


def _run(program: Callable[[Say], None], start: Barrier, reading: int, writing: int) -> None:
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as output:
        start.wait()
        try:
            program(lambda line: output.write(f"{line}\n"))
        except Exception:
            traceback.print_exc(file=output)
