"""Steps of batch jobs, run by the engine of the setting SOLLOL_BATCH_ENGINE, and the schedules that look after them."""

from fleet.services.batch import callbacks, orders, steps, sweep


def work(job: int, lane: int, turn: int) -> str:
    """One turn of a lane: some seconds of calls; the returned line is what the task list shows."""
    return steps.work(job, lane, turn)


def read_file(job: int) -> str:
    """Read the file of a job of `/v1/batches` and check it."""
    return orders.read_file(job)


def notify(job: int) -> str:
    """Tell a job's callback that it has ended."""
    return callbacks.notify(job)


def look_after() -> str:
    """Find jobs whose steps are gone, whose time is over, whose callbacks are due; every minute."""
    return sweep.look_after()


def clean_up() -> str:
    """Delete jobs that ended long ago; every hour."""
    return sweep.clean_up()
