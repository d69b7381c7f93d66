import datetime

from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Engine(_message.Message):
    __slots__ = ("engine_uuid", "year_of_manufacture", "manufacturer", "maximum_engine_speed", "maximum_mileage_resource", "remaining_mileage_resource")
    ENGINE_UUID_FIELD_NUMBER: _ClassVar[int]
    YEAR_OF_MANUFACTURE_FIELD_NUMBER: _ClassVar[int]
    MANUFACTURER_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_ENGINE_SPEED_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_MILEAGE_RESOURCE_FIELD_NUMBER: _ClassVar[int]
    REMAINING_MILEAGE_RESOURCE_FIELD_NUMBER: _ClassVar[int]
    engine_uuid: str
    year_of_manufacture: int
    manufacturer: str
    maximum_engine_speed: int
    maximum_mileage_resource: int
    remaining_mileage_resource: int
    def __init__(self, engine_uuid: _Optional[str] = ..., year_of_manufacture: _Optional[int] = ..., manufacturer: _Optional[str] = ..., maximum_engine_speed: _Optional[int] = ..., maximum_mileage_resource: _Optional[int] = ..., remaining_mileage_resource: _Optional[int] = ...) -> None: ...

class Vehicle(_message.Message):
    __slots__ = ("vehicle_uuid", "year_of_manufacture", "model", "engine")
    VEHICLE_UUID_FIELD_NUMBER: _ClassVar[int]
    YEAR_OF_MANUFACTURE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    vehicle_uuid: str
    year_of_manufacture: int
    model: str
    engine: Engine
    def __init__(self, vehicle_uuid: _Optional[str] = ..., year_of_manufacture: _Optional[int] = ..., model: _Optional[str] = ..., engine: _Optional[_Union[Engine, _Mapping]] = ...) -> None: ...

class VehicleCreated(_message.Message):
    __slots__ = ("vehicle",)
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    vehicle: Vehicle
    def __init__(self, vehicle: _Optional[_Union[Vehicle, _Mapping]] = ...) -> None: ...

class VehicleUpdated(_message.Message):
    __slots__ = ("vehicle", "field_mask")
    VEHICLE_FIELD_NUMBER: _ClassVar[int]
    FIELD_MASK_FIELD_NUMBER: _ClassVar[int]
    vehicle: Vehicle
    field_mask: _field_mask_pb2.FieldMask
    def __init__(self, vehicle: _Optional[_Union[Vehicle, _Mapping]] = ..., field_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class VehicleDeleted(_message.Message):
    __slots__ = ("vehicle_uuid", "revision")
    VEHICLE_UUID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    vehicle_uuid: str
    revision: int
    def __init__(self, vehicle_uuid: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("entity_uuid", "changed_at", "revision_number", "vehicle_created", "vehicle_updated", "vehicle_deleted", "resulting_state")
    ENTITY_UUID_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    REVISION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    VEHICLE_CREATED_FIELD_NUMBER: _ClassVar[int]
    VEHICLE_UPDATED_FIELD_NUMBER: _ClassVar[int]
    VEHICLE_DELETED_FIELD_NUMBER: _ClassVar[int]
    RESULTING_STATE_FIELD_NUMBER: _ClassVar[int]
    entity_uuid: str
    changed_at: _timestamp_pb2.Timestamp
    revision_number: int
    vehicle_created: VehicleCreated
    vehicle_updated: VehicleUpdated
    vehicle_deleted: VehicleDeleted
    resulting_state: Vehicle
    def __init__(self, entity_uuid: _Optional[str] = ..., changed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revision_number: _Optional[int] = ..., vehicle_created: _Optional[_Union[VehicleCreated, _Mapping]] = ..., vehicle_updated: _Optional[_Union[VehicleUpdated, _Mapping]] = ..., vehicle_deleted: _Optional[_Union[VehicleDeleted, _Mapping]] = ..., resulting_state: _Optional[_Union[Vehicle, _Mapping]] = ...) -> None: ...
