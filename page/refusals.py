"""How the page says no: JSON with what is wrong and what to do."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

__all__ = ["RefusedError", "on_http_error", "on_refused", "refusal"]


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        error: what is wrong, with the value.
        hint: what to do.
    """

    def __init__(self, status: int, error: str, hint: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.hint = hint


def refusal(status: int, error: str, hint: str) -> JSONResponse:
    """The answer."""
    headers = {"Cache-Control": "no-store", **({"Retry-After": "1"} if status == 503 else {})}  # noqa: PLR2004
    return JSONResponse({"error": error, "hint": hint}, status, headers)


async def on_refused(_: Request, error: Exception) -> JSONResponse:
    """Answer a `RefusedError`."""
    assert isinstance(error, RefusedError)  # noqa: S101  # as registered
    return refusal(error.status, error.error, error.hint)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what no route does."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    hint = "The page only answers GET." if status == 405 else "docs/page.md lists what there is."  # noqa: PLR2004
    return refusal(status, f"There is no {request.method} {request.url.path}", hint)
