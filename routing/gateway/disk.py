"""File work, off the event loop and in few threads, so that a slow disk holds up nothing else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

#: What is read or written in one go, in bytes: a change of threads per network piece would cost more than the work.
PIECE = 1 << 20
THREADS = 4

T = TypeVar("T")

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")


async def aside(job: Callable[[], T]) -> T:
    """A job's result from a thread.

    Cancelled meanwhile, it is waited for all the same before the cancellation goes on: a file must not be closed, or
    its number given to another, while a thread still works on it.
    """
    work = asyncio.get_running_loop().run_in_executor(_threads, job)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # taken note of, or it would be logged as forgotten
        raise cancelled
    return work.result()
