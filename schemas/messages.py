"""Encoders of result rows: Arrow columns to protobuf messages, a batch at a time."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import Message
from ptars import HandlerPool

__all__ = ["row_encoder"]

# As scalars of the column's type: a Python value would cost more than all the rest.
_ABSENT = {kind: pa.scalar(0, kind) for kind in (pa.int32(), pa.int64(), pa.float64())}
_ABSENT[pa.string()] = pa.scalar("", pa.string())


def row_encoder(message: type[Message]) -> Callable[[pa.RecordBatch], pa.BinaryArray]:
    """A function from (n,) rows to (n,) serialized messages.

    Each field takes the column of its name; a field `x_ms` takes the times of column `x`, as
    epoch ms. Null becomes 0 or the empty text. Other columns are left out.

    Args:
        message: generated class of the message.
    """
    handler = HandlerPool([message.DESCRIPTOR.file]).get_for_message(message.DESCRIPTOR)
    schema = handler.schema()

    def encode(rows: pa.RecordBatch) -> pa.BinaryArray:
        columns = []
        for field in schema:
            if field.name.endswith("_ms"):
                column = rows[field.name.removesuffix("_ms")].view(pa.int64())
            else:
                column = rows[field.name]
            if column.null_count:
                column = pc.fill_null(column, _ABSENT[column.type])
            columns.append(column if column.type == field.type else column.cast(field.type))
        return handler.record_batch_to_array(pa.record_batch(columns, schema=schema))

    return encode
