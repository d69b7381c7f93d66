"""librdkafka without an object per message: batches drained straight into Arrow buffers.

The shared library that confluent-kafka brings is used through its public C interface: a
consumer is made and assigned with ctypes, and a compiled loop copies the payloads of a
batch of `rd_kafka_message_t` into one buffer. What a Python client spends on message
objects, this does not. Layouts and calls: rdkafka.h of librdkafka 2.x.
"""

import ctypes
import threading
from typing import Any

import numpy as np
import pyarrow as pa
from numba import carray, njit  # type: ignore[attr-defined]  # carray is public
from numpy.typing import NDArray

from schemas.librdkafka import address_of, bytes_at, call_2, load, words_at
from schemas.stream import Fetched
from sources.kafka_client import ClientError, ClientEvent, Config

__all__ = ["NativeConsumer", "compile_fetch", "is_available"]

_CONSUMER = 1  # RD_KAFKA_CONSUMER
_ERROR_BYTES = 512


class _TopicPartition(ctypes.Structure):
    _fields_ = (
        ("topic", ctypes.c_char_p),
        ("partition", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("metadata", ctypes.c_void_p),
        ("metadata_size", ctypes.c_size_t),
        ("opaque", ctypes.c_void_p),
        ("err", ctypes.c_int),
        ("private", ctypes.c_void_p),
    )


_POINTER, _TEXT, _NUMBER, _OFFSET_T = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int64
_LIBRARY = load(
    {
        "rd_kafka_conf_new": (_POINTER, []),
        "rd_kafka_conf_set": (_NUMBER, [_POINTER, _TEXT, _TEXT, _TEXT, ctypes.c_size_t]),
        "rd_kafka_conf_destroy": (None, [_POINTER]),
        "rd_kafka_new": (_POINTER, [_NUMBER, _POINTER, _TEXT, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [_POINTER]),
        "rd_kafka_poll_set_consumer": (_NUMBER, [_POINTER]),
        "rd_kafka_consumer_close": (_NUMBER, [_POINTER]),
        "rd_kafka_queue_get_consumer": (_POINTER, [_POINTER]),
        "rd_kafka_queue_destroy": (None, [_POINTER]),
        "rd_kafka_consume_batch_queue": (
            ctypes.c_ssize_t,
            [_POINTER, _NUMBER, _POINTER, ctypes.c_size_t],
        ),
        "rd_kafka_message_timestamp": (_OFFSET_T, [_POINTER, _POINTER]),
        "rd_kafka_message_destroy": (None, [_POINTER]),
        "rd_kafka_topic_partition_list_new": (_POINTER, [_NUMBER]),
        "rd_kafka_topic_partition_list_add": (
            ctypes.POINTER(_TopicPartition),
            [_POINTER, _TEXT, ctypes.c_int32],
        ),
        "rd_kafka_topic_partition_list_destroy": (None, [_POINTER]),
        "rd_kafka_assign": (_NUMBER, [_POINTER, _POINTER]),
        "rd_kafka_commit": (_NUMBER, [_POINTER, _POINTER, _NUMBER]),
        "rd_kafka_query_watermark_offsets": (
            _NUMBER,
            [
                *(_POINTER, _TEXT, ctypes.c_int32),
                *(ctypes.POINTER(_OFFSET_T), ctypes.POINTER(_OFFSET_T), _NUMBER),
            ],
        ),
        "rd_kafka_get_watermark_offsets": (
            _NUMBER,
            [
                *(_POINTER, _TEXT, ctypes.c_int32),
                *(ctypes.POINTER(_OFFSET_T), ctypes.POINTER(_OFFSET_T)),
            ],
        ),
        "rd_kafka_err2str": (_TEXT, [_NUMBER]),
    }
)


def is_available() -> bool:
    """Whether `NativeConsumer` can be used here."""
    return _LIBRARY is not None


def compile_fetch() -> None:
    """Have the loops compiled, by a call with no messages."""
    none = np.zeros(0, np.int64)
    _keys(none, 0)
    _drain(none, 0, 0, 0, 0)


# Words of rd_kafka_message_t, 8 bytes each: err (low half of the first), topic, partition
# (low half), payload, length, key, key length, offset, private.
_ERR, _PAYLOAD, _LENGTH, _KEY, _KEY_LENGTH, _OFFSET, _WORDS = 0, 3, 4, 5, 6, 7, 9
_LOW_HALF = 0xFFFFFFFF


@njit(cache=True)
def _drain(
    messages: NDArray[np.int64],
    n: int,
    timestamp_function: int,
    destroy_function: int,
    scratch: int,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.uint8],
    NDArray[np.bool_],
    NDArray[np.int64],
]:
    """Copy out a batch and let go of its messages.

    Args:
        messages: (n,) addresses of messages.
        n: how many.
        timestamp_function: address of rd_kafka_message_timestamp.
        destroy_function: address of rd_kafka_message_destroy.
        scratch: address of an int that may be written.

    Returns:
        Offsets, timestamps, ends of values (one more), value bytes and validity of the
        records; and pairs of error code and offset of the other events.
    """
    size = 0
    records = 0
    for i in range(n):
        words = carray(words_at(messages[i]), (_WORDS,))
        if words[_ERR] & _LOW_HALF == 0:
            records += 1
            size += words[_LENGTH]
    offsets = np.empty(records, np.int64)
    stamps = np.empty(records, np.int64)
    ends = np.empty(records + 1, np.int32)
    data = np.empty(size, np.uint8)
    valid = np.empty(records, np.bool_)
    events = np.empty(2 * (n - records), np.int64)
    ends[0] = 0
    r = 0
    e = 0
    end = 0
    for i in range(n):
        words = carray(words_at(messages[i]), (_WORDS,))
        if words[_ERR] & _LOW_HALF == 0:
            length = words[_LENGTH]
            valid[r] = words[_PAYLOAD] != 0
            if valid[r] and length > 0:
                payload = carray(bytes_at(words[_PAYLOAD]), (length,))
                for at in range(length):
                    data[end + at] = payload[at]
                end += length
            offsets[r] = words[_OFFSET]
            stamps[r] = call_2(timestamp_function, messages[i], scratch)
            r += 1
            ends[r] = end
        else:
            code = words[_ERR] & _LOW_HALF
            events[e] = code - (_LOW_HALF + 1) if code > _LOW_HALF // 2 else code
            events[e + 1] = words[_OFFSET]
            e += 2
        call_2(destroy_function, messages[i], 0)
    return offsets, stamps, ends, data, valid, events


@njit(cache=True)
def _keys(
    messages: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Copy out the keys of a batch, before its messages are let go of.

    Returns:
        Ends of keys (one more), key bytes and validity of the records.
    """
    size = 0
    records = 0
    for i in range(n):
        words = carray(words_at(messages[i]), (_WORDS,))
        if words[_ERR] & _LOW_HALF == 0:
            records += 1
            size += words[_KEY_LENGTH]
    ends = np.empty(records + 1, np.int32)
    data = np.empty(size, np.uint8)
    valid = np.empty(records, np.bool_)
    ends[0] = 0
    r = 0
    end = 0
    for i in range(n):
        words = carray(words_at(messages[i]), (_WORDS,))
        if words[_ERR] & _LOW_HALF == 0:
            length = words[_KEY_LENGTH]
            valid[r] = words[_KEY] != 0
            if valid[r] and length > 0:
                key = carray(bytes_at(words[_KEY]), (length,))
                for at in range(length):
                    data[end + at] = key[at]
                end += length
            r += 1
            ends[r] = end
    return ends, data, valid


class NativeConsumer:
    """librdkafka's consumer without Python objects; see `sources.kafka_client.Client`.

    Args:
        config: librdkafka settings.
        topic: topic name.
        partition: partition number.
        with_keys: whether to bring the records' keys too.

    Raises:
        ClientError: A setting is refused, or `group.id` is missing.
    """

    def __init__(
        self, config: Config, topic: str, partition: int, *, with_keys: bool = False
    ) -> None:
        if _LIBRARY is None:
            raise ClientError("librdkafka 2.x was not found beside confluent-kafka")
        self._with_keys = with_keys
        self._lib = _LIBRARY
        self._topic = topic.encode()
        self._partition = partition
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        conf = self._lib.rd_kafka_conf_new()
        # It would write to the standard error stream, past the log; errors come as events.
        for name, value in {"log_level": 0, **config}.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if self._lib.rd_kafka_conf_set(conf, name.encode(), text.encode(), error, _ERROR_BYTES):
                self._lib.rd_kafka_conf_destroy(conf)
                raise ClientError(error.value.decode())
        self._handle = self._lib.rd_kafka_new(_CONSUMER, conf, error, _ERROR_BYTES)
        if not self._handle:
            self._lib.rd_kafka_conf_destroy(conf)
            raise ClientError(error.value.decode())
        self._lib.rd_kafka_poll_set_consumer(self._handle)
        self._queue = self._lib.rd_kafka_queue_get_consumer(self._handle)
        if not self._queue:
            self._lib.rd_kafka_destroy(self._handle)
            raise ClientError("A consumer needs a group.id")
        self._is_closed = False
        self._closing = threading.Lock()  # against a look from another thread
        self._messages = np.empty(0, np.int64)
        self._scratch = ctypes.c_int64()
        self._timestamp = address_of(self._lib.rd_kafka_message_timestamp)
        self._destroy = address_of(self._lib.rd_kafka_message_destroy)

    def bounds(self, timeout_s: float) -> tuple[int, int]:
        """See `Client`."""
        low, high = ctypes.c_int64(), ctypes.c_int64()
        self._check(
            self._lib.rd_kafka_query_watermark_offsets(
                self._handle,
                self._topic,
                self._partition,
                ctypes.byref(low),
                ctypes.byref(high),
                round(timeout_s * 1000),
            )
        )
        return low.value, high.value

    def start(self, offset: int) -> None:
        """See `Client`."""
        self._with_offset(offset, lambda parts: self._lib.rd_kafka_assign(self._handle, parts))

    def consume(self, limit: int) -> tuple[Fetched | None, list[ClientEvent]]:
        """See `Client`."""
        if len(self._messages) < limit:
            self._messages = np.empty(limit, np.int64)
        n = self._lib.rd_kafka_consume_batch_queue(
            self._queue, 0, self._messages.ctypes.data, limit
        )
        if n <= 0:
            return None, []
        keys = _binary(*_keys(self._messages, n)) if self._with_keys else None
        offsets, stamps, ends, data, valid, events = _drain(
            self._messages,
            n,
            self._timestamp,
            self._destroy,
            ctypes.addressof(self._scratch),
        )
        errors = [
            ClientEvent(code, offset, self._lib.rd_kafka_err2str(code).decode())
            for code, offset in events.reshape(-1, 2).tolist()
        ]
        if not len(offsets):
            return None, errors
        return Fetched(_binary(ends, data, valid), offsets, stamps, keys), errors

    def known_end(self) -> int | None:
        """See `Client`."""
        low, high = ctypes.c_int64(), ctypes.c_int64()
        with self._closing:
            if self._is_closed:
                return None
            failed = self._lib.rd_kafka_get_watermark_offsets(
                self._handle,
                self._topic,
                self._partition,
                ctypes.byref(low),
                ctypes.byref(high),
            )
        return None if failed or high.value < 0 else high.value

    def commit(self, offset: int) -> None:
        """See `Client`."""
        self._with_offset(offset, lambda parts: self._lib.rd_kafka_commit(self._handle, parts, 1))

    def close(self) -> None:
        """See `Client`; pending commits are sent."""
        with self._closing:
            self._is_closed = True
        self._lib.rd_kafka_consumer_close(self._handle)
        self._lib.rd_kafka_queue_destroy(self._queue)
        self._lib.rd_kafka_destroy(self._handle)

    def _with_offset(self, offset: int, use: Any) -> None:  # noqa: ANN401  # a local function
        parts = self._lib.rd_kafka_topic_partition_list_new(1)
        try:
            entry = self._lib.rd_kafka_topic_partition_list_add(parts, self._topic, self._partition)
            entry.contents.offset = offset
            self._check(use(parts))
        finally:
            self._lib.rd_kafka_topic_partition_list_destroy(parts)

    def _check(self, code: int) -> None:
        if code:
            raise ClientError(self._lib.rd_kafka_err2str(code).decode())


def _binary(
    ends: NDArray[np.int32], data: NDArray[np.uint8], valid: NDArray[np.bool_]
) -> pa.BinaryArray:
    absent = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(valid), [absent, pa.py_buffer(ends), pa.py_buffer(data)]
    )
