"""The options by which a command works on several processes or machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from typer import Option

if TYPE_CHECKING:
    from paramreuse.distribution.pool import Pool

Workers = Annotated[
    int | None,
    Option(
        min=1,
        metavar="N",
        help="Processes on this machine to share the work (needs Ray). They share its threads, on "
        "which the last digits of trainings depend: set OMP_NUM_THREADS=1 to compare runs.",
    ),
]
RayAddress = Annotated[
    str | None,
    Option("--ray", metavar="ADDRESS", help="Ray cluster to share the work: HOST:PORT or auto."),
]


@contextmanager
def chosen_pool(workers: int | None, address: str | None) -> "Iterator[Pool | None]":
    """Start or join the workers that were asked for; None where there are none.

    Raises:
        ParamReuseError: Both are given.
        MissingExtraError: Ray is not installed.
        WorkerError: The workers cannot be started, or nothing answers at the address.
    """
    if workers is None and address is None:
        yield None
        return
    from paramreuse.distribution.ray_pool import ray_pool

    with ray_pool(workers, address=address) as pool:
        yield pool
