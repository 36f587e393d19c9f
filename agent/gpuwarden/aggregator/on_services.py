"""Something done where the picture of the services is: on their thread."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from gpuwarden.aggregator.services import Services
from gpuwarden.errors import Unavailable

Result = TypeVar("Result")


def on_services(services: Services, job: Callable[[], Result]) -> "Future[Result]":
    """Its result, once the services' thread has come to it; whoever gives up waiting has it left undone."""
    future: Future[Result] = Future()

    def done() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(job())
        except Exception as error:  # noqa: BLE001  the boundary: whoever waits is told
            future.set_exception(error)

    services.do(done)
    return future


def of_whole(services: Services, job: Callable[[], Result]) -> Result:
    """The services' thread: for what may not leave out windows that come later; ``Unavailable`` while some are not
    known here."""
    if services.fault:
        raise Unavailable(services.fault)
    return job()


def asked(services: Services, job: Callable[[], Result], within_s: float) -> Result:
    """The same, waited for; ``Unavailable`` when it does not come in time."""
    future = on_services(services, job)
    try:
        return future.result(within_s)
    except TimeoutError as error:
        future.cancel()
        raise Unavailable("the services are busy") from error
