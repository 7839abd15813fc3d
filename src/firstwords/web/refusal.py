"""What the page answers where it cannot do what was asked: a FirstwordsError with the status of HTTP."""

from __future__ import annotations

from firstwords.errors import FirstwordsError


class Refusal(FirstwordsError):
    """A request that cannot be answered. status: of HTTP, as in 404 for what is not there and 503 for later."""

    def __init__(self, status: int, what: str, *, where: str | None = None, do: str | None = None) -> None:
        super().__init__(what, where=where, do=do)
        self.status = status


def status_of(error: FirstwordsError) -> int:
    """The status of HTTP for an error; 422 (understood, and of no use) for those that the page did not raise itself."""
    return error.status if isinstance(error, Refusal) else 422


def told(error: FirstwordsError) -> dict[str, str | None]:
    """An error as the page's scripts show it."""
    return {"what": error.what, "where": error.where, "do": error.do}
