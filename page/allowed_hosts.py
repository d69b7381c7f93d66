"""Answers only under the names that are the page's own.

A site elsewhere can give a name of its own the address of the loopback, and a browser then
lets its scripts read what answers there (DNS rebinding). The request names the site in `Host`.
"""

from collections.abc import Collection

from starlette.datastructures import URL
from starlette.types import ASGIApp, Receive, Scope, Send

from page.refusals import refusal

__all__ = ["AllowedHosts"]

_MISDIRECTED = 421


class AllowedHosts:
    """Middleware that refuses what is asked under another name.

    Args:
        app: what answers.
        names: in lower case, addresses of IPv6 without brackets; None: any.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] | None) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say under which setting the name would have to stand."""
        if scope["type"] == "http" and self._names is not None:
            name = _name(scope)
            if name not in self._names:
                answer = refusal(
                    _MISDIRECTED,
                    f"The page does not answer to the name {name!r}",
                    "Ask for it as localhost; or, behind a proxy, name it in PAGE_ALLOWED_HOSTS.",
                )
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _name(scope: Scope) -> str | None:
    """What `Host` says, in lower case and without the port; None for nothing of use."""
    try:
        return URL(scope=scope).hostname
    except ValueError:
        return None
