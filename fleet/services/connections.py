"""Database connections of threads that work for the gateway all the time."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def kept_connection() -> Iterator[None]:
    """Keep this thread's connection open for the next job; after any error the next job gets a new one.

    Opening and closing for each job would cost more than most jobs: the last connection to a SQLite file that closes
    writes the whole log back into it.
    """
    try:
        yield
    except BaseException:
        connection.close()
        raise


def close_connection() -> None:
    """Close the connection of the thread that calls this."""
    connection.close()
