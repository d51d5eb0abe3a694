"""A caller is an address, and what a proxy says of it counts only if the proxy is trusted."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from blip_space import settings
from blip_space.apps.http.callers import CallerAddresses, caller_of
from blip_space.callers import Caller
from blip_space.errors import UserError
from blip_space.settings.proxies import parse_trusted_proxies
from blip_space.settings.values import Value
from tests.security.coroutines import run_in_thread

PROXY = "10.0.0.9"


def caller(peer: str, *forwarded: str, trusted: str = "10.0.0.0/8", query: str = "") -> Caller:
    """The caller of a request that comes from `peer` with these headers."""
    seen: list[Caller] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(caller_of(scope))

    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"type": "http", "client": (peer, 5), "headers": headers, "query_string": query.encode()}
    nothing: Any = None
    run_in_thread(CallerAddresses(app, parse_trusted_proxies(Value(trusted, "test")))(scope, nothing, nothing))
    return seen[0]


def test_a_caller_is_a_session_at_an_address() -> None:
    assert caller("1.2.3.4", query="session_hash=abc&x=1") == Caller("1.2.3.4", "abc")
    assert caller("1.2.3.4") == Caller("1.2.3.4", "")


def test_a_stranger_cannot_choose_its_address(caplog: pytest.LogCaptureFixture) -> None:
    assert caller("1.2.3.4", "5.6.7.8").address == "1.2.3.4"
    assert "1.2.3.4 sends X-Forwarded-For, but is not a trusted proxy" in caplog.text
    assert "--trusted-proxies 1.2.3.4" in caplog.text


@pytest.mark.parametrize(("forwarded", "address"), [
    (["5.6.7.8"], "5.6.7.8"),
    (["9.9.9.9, 5.6.7.8, 10.0.0.3"], "5.6.7.8"),  # the first one is what the caller itself has sent
    (["9.9.9.9", "5.6.7.8"], "5.6.7.8"),
    (["5.6.7.8:1234"], "5.6.7.8"),
    (["[2001:db8:1:2::5]:80"], "2001:db8:1:2::/64"),
    (["::ffff:5.6.7.8"], "5.6.7.8"),
    (["5.6.7.8, nonsense"], PROXY),
    ([""], PROXY),
    (["10.0.0.4"], "10.0.0.4"),
])  # fmt: skip
def test_a_trusted_proxy_names_the_caller(forwarded: list[str], address: str) -> None:
    assert caller(PROXY, *forwarded).address == address


def test_addresses_of_one_network_are_one_caller() -> None:
    assert caller("2001:db8:1:2::5") == caller("2001:db8:1:2:ffff::6")
    assert caller("2001:db8:1:3::5") != caller("2001:db8:1:2::5")
    assert caller("::ffff:1.2.3.4") == caller("1.2.3.4")


def test_proxies_are_named_by_address_or_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.read().trusted_proxies == ()
    named = settings.read({"trusted_proxies": "10.1.2.3, fd00::/8"}).trusted_proxies
    assert [str(network) for network in named] == ["10.1.2.3/32", "fd00::/8"]
    with pytest.raises(UserError, match=r"^--trusted-proxies has 'proxy', which is neither an address"):
        settings.read({"trusted_proxies": "proxy"})
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    assert "10.0.0.0/8" in map(str, settings.read().trusted_proxies)
    assert settings.read({"trusted_proxies": "1.2.3.4"}).trusted_proxies != settings.read().trusted_proxies
