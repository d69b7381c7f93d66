from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUY: _ClassVar[Side]
    SELL: _ClassVar[Side]
BUY: Side
SELL: Side

class Decimal(_message.Message):
    __slots__ = ("unscaled", "scale")
    UNSCALED_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    unscaled: int
    scale: int
    def __init__(self, unscaled: _Optional[int] = ..., scale: _Optional[int] = ...) -> None: ...

class Trade(_message.Message):
    __slots__ = ("instrument", "timestamp_ms", "price", "quantity", "side", "trade_seq", "trade_id", "index_price", "mark_price", "iv", "liquidation", "block_trade_id", "tick_direction")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    TRADE_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_PRICE_FIELD_NUMBER: _ClassVar[int]
    MARK_PRICE_FIELD_NUMBER: _ClassVar[int]
    IV_FIELD_NUMBER: _ClassVar[int]
    LIQUIDATION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    TICK_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    instrument: str
    timestamp_ms: int
    price: Decimal
    quantity: Decimal
    side: Side
    trade_seq: int
    trade_id: str
    index_price: Decimal
    mark_price: Decimal
    iv: Decimal
    liquidation: str
    block_trade_id: str
    tick_direction: int
    def __init__(self, instrument: _Optional[str] = ..., timestamp_ms: _Optional[int] = ..., price: _Optional[_Union[Decimal, _Mapping]] = ..., quantity: _Optional[_Union[Decimal, _Mapping]] = ..., side: _Optional[_Union[Side, str]] = ..., trade_seq: _Optional[int] = ..., trade_id: _Optional[str] = ..., index_price: _Optional[_Union[Decimal, _Mapping]] = ..., mark_price: _Optional[_Union[Decimal, _Mapping]] = ..., iv: _Optional[_Union[Decimal, _Mapping]] = ..., liquidation: _Optional[str] = ..., block_trade_id: _Optional[str] = ..., tick_direction: _Optional[int] = ...) -> None: ...

class OrderExecutionReport(_message.Message):
    __slots__ = ("instrument_id", "order_id", "price", "quantity", "side", "timestamp_ms")
    INSTRUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    instrument_id: int
    order_id: str
    price: Decimal
    quantity: Decimal
    side: Side
    timestamp_ms: int
    def __init__(self, instrument_id: _Optional[int] = ..., order_id: _Optional[str] = ..., price: _Optional[_Union[Decimal, _Mapping]] = ..., quantity: _Optional[_Union[Decimal, _Mapping]] = ..., side: _Optional[_Union[Side, str]] = ..., timestamp_ms: _Optional[int] = ...) -> None: ...

class Candle(_message.Message):
    __slots__ = ("instrument", "interval", "open_time_ms", "close_time_ms", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trade_count", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_seq", "last_trade_seq", "open_trade_time_ms", "high_trade_time_ms", "low_trade_time_ms", "close_trade_time_ms", "is_closed", "revision", "gap_filled", "complete")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    OPEN_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    QUOTE_VOLUME_FIELD_NUMBER: _ClassVar[int]
    VWAP_FIELD_NUMBER: _ClassVar[int]
    TRADE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TAKER_BUY_VOLUME_FIELD_NUMBER: _ClassVar[int]
    TAKER_BUY_QUOTE_VOLUME_FIELD_NUMBER: _ClassVar[int]
    FIRST_TRADE_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_TRADE_SEQ_FIELD_NUMBER: _ClassVar[int]
    OPEN_TRADE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    HIGH_TRADE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    LOW_TRADE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TRADE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    IS_CLOSED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    GAP_FILLED_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    instrument: str
    interval: str
    open_time_ms: int
    close_time_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    vwap: str
    trade_count: int
    taker_buy_volume: str
    taker_buy_quote_volume: str
    first_trade_seq: int
    last_trade_seq: int
    open_trade_time_ms: int
    high_trade_time_ms: int
    low_trade_time_ms: int
    close_trade_time_ms: int
    is_closed: bool
    revision: int
    gap_filled: bool
    complete: bool
    def __init__(self, instrument: _Optional[str] = ..., interval: _Optional[str] = ..., open_time_ms: _Optional[int] = ..., close_time_ms: _Optional[int] = ..., open: _Optional[str] = ..., high: _Optional[str] = ..., low: _Optional[str] = ..., close: _Optional[str] = ..., volume: _Optional[str] = ..., quote_volume: _Optional[str] = ..., vwap: _Optional[str] = ..., trade_count: _Optional[int] = ..., taker_buy_volume: _Optional[str] = ..., taker_buy_quote_volume: _Optional[str] = ..., first_trade_seq: _Optional[int] = ..., last_trade_seq: _Optional[int] = ..., open_trade_time_ms: _Optional[int] = ..., high_trade_time_ms: _Optional[int] = ..., low_trade_time_ms: _Optional[int] = ..., close_trade_time_ms: _Optional[int] = ..., is_closed: _Optional[bool] = ..., revision: _Optional[int] = ..., gap_filled: _Optional[bool] = ..., complete: _Optional[bool] = ...) -> None: ...

class Statistics(_message.Message):
    __slots__ = ("instrument", "open_time_ms", "close_time_ms", "open", "high", "low", "last", "price_change", "price_change_percent", "volume", "quote_volume", "weighted_average_price", "trade_count", "first_trade_id", "last_trade_id", "high_time_ms", "low_time_ms")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    OPEN_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PRICE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    PRICE_CHANGE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    QUOTE_VOLUME_FIELD_NUMBER: _ClassVar[int]
    WEIGHTED_AVERAGE_PRICE_FIELD_NUMBER: _ClassVar[int]
    TRADE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    HIGH_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    LOW_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    instrument: str
    open_time_ms: int
    close_time_ms: int
    open: str
    high: str
    low: str
    last: str
    price_change: str
    price_change_percent: str
    volume: str
    quote_volume: str
    weighted_average_price: str
    trade_count: int
    first_trade_id: int
    last_trade_id: int
    high_time_ms: int
    low_time_ms: int
    def __init__(self, instrument: _Optional[str] = ..., open_time_ms: _Optional[int] = ..., close_time_ms: _Optional[int] = ..., open: _Optional[str] = ..., high: _Optional[str] = ..., low: _Optional[str] = ..., last: _Optional[str] = ..., price_change: _Optional[str] = ..., price_change_percent: _Optional[str] = ..., volume: _Optional[str] = ..., quote_volume: _Optional[str] = ..., weighted_average_price: _Optional[str] = ..., trade_count: _Optional[int] = ..., first_trade_id: _Optional[int] = ..., last_trade_id: _Optional[int] = ..., high_time_ms: _Optional[int] = ..., low_time_ms: _Optional[int] = ...) -> None: ...

class Ewma(_message.Message):
    __slots__ = ("instrument", "window_start_ms", "window_end_ms", "alpha", "halflife_s", "value", "trade_count", "volume", "last_price", "revision")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_MS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    HALFLIFE_S_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TRADE_COUNT_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    LAST_PRICE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    instrument: str
    window_start_ms: int
    window_end_ms: int
    alpha: float
    halflife_s: float
    value: float
    trade_count: int
    volume: str
    last_price: str
    revision: int
    def __init__(self, instrument: _Optional[str] = ..., window_start_ms: _Optional[int] = ..., window_end_ms: _Optional[int] = ..., alpha: _Optional[float] = ..., halflife_s: _Optional[float] = ..., value: _Optional[float] = ..., trade_count: _Optional[int] = ..., volume: _Optional[str] = ..., last_price: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...
