"""The page answers under its own names only."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from page.allowed_hosts import AllowedHosts
from page.settings import PageSettings
from schemas.errors import FlowError


def settings(**variables: str) -> PageSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return PageSettings.load()


def asked(host: str, **variables: str) -> httpx.Response:
    """What a page with these settings answers to a request with this `Host`."""
    app = Starlette(
        routes=[Route("/", lambda _: PlainTextResponse("yes"))],
        middleware=[Middleware(AllowedHosts, names=settings(**variables).allowed_hosts)],
    )

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            return await http.get("/", headers={"Host": host})

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8600", "127.0.0.1", "127.0.0.1:1", "[::1]:8600"]
)
def test_the_names_of_the_loopback(host: str) -> None:
    assert asked(host).text == "yes"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "localhost.evil.example", "[::1", "a b", ""]
)
def test_another_name_is_refused_with_what_to_do(host: str) -> None:
    answer = asked(host)
    assert answer.status_code == 421
    assert "PAGE_ALLOWED_HOSTS" in answer.json()["hint"]


def test_a_page_that_is_open_answers_to_any_name_unless_told() -> None:
    assert asked("any.example", PAGE_HOST="0.0.0.0").text == "yes"
    told = {"PAGE_HOST": "0.0.0.0", "PAGE_ALLOWED_HOSTS": "Mine.example, 10.0.0.7"}
    assert asked("mine.example:443", **told).text == "yes"
    assert asked("any.example", **told).status_code == 421


def test_names_that_are_none() -> None:
    with pytest.raises(FlowError, match="PAGE_ALLOWED_HOSTS"):
        settings(PAGE_ALLOWED_HOSTS="http://mine.example")
