"""Settings of the exchange feed: what goes together, and that secrets stay hidden."""

import pytest

from dataflows.deribit_settings import DeribitSettings
from schemas.errors import FlowError
from sources.deribit import Subscription


def load(**variables: str) -> DeribitSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return DeribitSettings.load()


def refusal(**variables: str) -> str:
    with pytest.raises(FlowError) as caught:
        load(**variables)
    return str(caught.value)


def test_the_embedded_run_takes_the_simulated_exchange() -> None:
    settings = load()
    assert settings.endpoint_url is None
    assert settings.subscription.channels == [
        "trades.BTC-PERPETUAL.100ms",
        "trades.ETH-PERPETUAL.100ms",
    ]


def test_endpoints() -> None:
    assert load(DERIBIT_ENDPOINT="test").endpoint_url == "wss://test.deribit.com/ws/api/v2"
    assert load(DERIBIT_ENDPOINT="production").endpoint_url == "wss://www.deribit.com/ws/api/v2"
    assert load(DERIBIT_ENDPOINT="wss://proxy/x").endpoint_url == "wss://proxy/x"
    assert load(DERIBIT_ENDPOINT="ws://127.0.0.1:1/x").endpoint_url == "ws://127.0.0.1:1/x"
    assert "unencrypted" in refusal(DERIBIT_ENDPOINT="ws://proxy/x")
    assert "DERIBIT_ENDPOINT is not" in refusal(KAFKA_BOOTSTRAP_SERVERS="k:9092")
    assert "DERIBIT_ENDPOINT='http://x'" in refusal(DERIBIT_ENDPOINT="http://x")


def test_raw_without_credentials_is_refused_with_the_way_out() -> None:
    told = refusal(DERIBIT_INTERVAL="raw")
    assert "DERIBIT_CLIENT_ID" in told
    assert "100ms" in told
    key = {"DERIBIT_CLIENT_ID": "me", "DERIBIT_CLIENT_SECRET": "hush"}
    assert load(DERIBIT_INTERVAL="raw", **key).credentials == ("me", "hush")


def test_credentials_are_hidden() -> None:
    key = {"DERIBIT_CLIENT_ID": "me-myself", "DERIBIT_CLIENT_SECRET": "hush-hush"}
    settings = load(**key)
    for shown in (
        repr(settings),
        repr(settings.rule),
        refusal(DERIBIT_KINDS="x", **key),
        refusal(DERIBIT_INTERVAL="x", **key),
        refusal(STOP_AT_END="1", **key),
        refusal(DERIBIT_CLIENT_SECRET="hush-hush"),
        refusal(DERIBIT_CLIENT_ID="me-myself"),
    ):
        assert "me-myself" not in shown
        assert "hush-hush" not in shown


def test_kinds_and_instruments() -> None:
    settings = load(DERIBIT_KINDS="future, option", DERIBIT_CURRENCIES="BTC,any")
    assert settings.subscription.channels == [
        "trades.future.BTC.100ms",
        "trades.future.any.100ms",
        "trades.option.BTC.100ms",
        "trades.option.any.100ms",
    ]
    both = load(DERIBIT_KINDS="spot", DERIBIT_INSTRUMENTS="A,B,A", DERIBIT_INTERVAL="agg2")
    assert both.subscription.instruments == ("A", "B")
    assert len(both.subscription.channels) == 4
    assert "with commas between" in refusal(DERIBIT_INSTRUMENTS="A/B")
    assert "DERIBIT_KINDS" in refusal(DERIBIT_KINDS="bond")
    assert "DERIBIT_HEARTBEAT_S" in refusal(DERIBIT_HEARTBEAT_S="5")
    assert "no" in refusal(STOP_AT_END="true")


def test_connections_share_the_channels_for_ever() -> None:
    whole = Subscription([f"I{i}" for i in range(1_000)], ["future.BTC", "option.any"])
    shares = [whole.share(number, 4) for number in range(4)]
    names = [name for share in shares for name in (*share.instruments, *share.groups)]
    assert sorted(names) == sorted([*whole.instruments, *whole.groups])
    assert all(len(share.instruments) > 150 for share in shares)
    grown = Subscription([*whole.instruments, "more"], whole.groups).share(1, 4)
    assert set(shares[1].instruments) <= set(grown.instruments)
