from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    UINT8: _ClassVar[DType]
    FLOAT32: _ClassVar[DType]
    FLOAT16: _ClassVar[DType]

class Layout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAYOUT_UNSPECIFIED: _ClassVar[Layout]
    NCHW: _ClassVar[Layout]
    NHWC: _ClassVar[Layout]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    FULL: _ClassVar[Precision]
    REDUCED: _ClassVar[Precision]

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATE_UNSPECIFIED: _ClassVar[TaskState]
    QUEUED: _ClassVar[TaskState]
    LEARNING: _ClassVar[TaskState]
    COMMITTING: _ClassVar[TaskState]
    LEARNED: _ClassVar[TaskState]
    FAILED: _ClassVar[TaskState]
    CANCELLED: _ClassVar[TaskState]
DTYPE_UNSPECIFIED: DType
UINT8: DType
FLOAT32: DType
FLOAT16: DType
LAYOUT_UNSPECIFIED: Layout
NCHW: Layout
NHWC: Layout
PRECISION_UNSPECIFIED: Precision
FULL: Precision
REDUCED: Precision
TASK_STATE_UNSPECIFIED: TaskState
QUEUED: TaskState
LEARNING: TaskState
COMMITTING: TaskState
LEARNED: TaskState
FAILED: TaskState
CANCELLED: TaskState

class Format(_message.Message):
    __slots__ = ("dtype", "layout", "height", "width")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    layout: Layout
    height: int
    width: int
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., layout: _Optional[_Union[Layout, str]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class DataSpec(_message.Message):
    __slots__ = ("shape", "dtype")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: DType
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[_Union[DType, str]] = ...) -> None: ...

class ClassLabel(_message.Message):
    __slots__ = ("integer", "text")
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    integer: int
    text: str
    def __init__(self, integer: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class CreateMemoryRequest(_message.Message):
    __slots__ = ("name", "kind", "options", "spec")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    options: _containers.ScalarMap[str, str]
    spec: DataSpec
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., spec: _Optional[_Union[DataSpec, _Mapping]] = ...) -> None: ...

class GetMemoryRequest(_message.Message):
    __slots__ = ("name", "brief")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BRIEF_FIELD_NUMBER: _ClassVar[int]
    name: str
    brief: bool
    def __init__(self, name: _Optional[str] = ..., brief: bool = ...) -> None: ...

class ListMemoriesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMemoriesResponse(_message.Message):
    __slots__ = ("memories",)
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    memories: _containers.RepeatedCompositeFieldContainer[Memory]
    def __init__(self, memories: _Optional[_Iterable[_Union[Memory, _Mapping]]] = ...) -> None: ...

class DeleteMemoryRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteMemoryResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Memory(_message.Message):
    __slots__ = ("name", "kind", "options", "spec", "revision", "classes", "bytes", "tasks", "complete", "consolidated", "analysis", "drowsy")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    CONSOLIDATED_FIELD_NUMBER: _ClassVar[int]
    ANALYSIS_FIELD_NUMBER: _ClassVar[int]
    DROWSY_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    options: _containers.ScalarMap[str, str]
    spec: DataSpec
    revision: int
    classes: _containers.RepeatedCompositeFieldContainer[ClassLabel]
    bytes: int
    tasks: int
    complete: bool
    consolidated: int
    analysis: _containers.RepeatedCompositeFieldContainer[TaskAnalysis]
    drowsy: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., spec: _Optional[_Union[DataSpec, _Mapping]] = ..., revision: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[ClassLabel, _Mapping]]] = ..., bytes: _Optional[int] = ..., tasks: _Optional[int] = ..., complete: bool = ..., consolidated: _Optional[int] = ..., analysis: _Optional[_Iterable[_Union[TaskAnalysis, _Mapping]]] = ..., drowsy: bool = ...) -> None: ...

class TaskAnalysis(_message.Message):
    __slots__ = ("task", "gate", "layers", "trajectory", "parameters", "worst_case", "weight_bytes", "mask_bytes", "own_bytes", "erasable", "reuses", "consolidated")
    TASK_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    WORST_CASE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MASK_BYTES_FIELD_NUMBER: _ClassVar[int]
    OWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    ERASABLE_FIELD_NUMBER: _ClassVar[int]
    REUSES_FIELD_NUMBER: _ClassVar[int]
    CONSOLIDATED_FIELD_NUMBER: _ClassVar[int]
    task: str
    gate: str
    layers: _containers.RepeatedCompositeFieldContainer[LayerUsage]
    trajectory: _containers.RepeatedCompositeFieldContainer[MaskPoint]
    parameters: int
    worst_case: int
    weight_bytes: int
    mask_bytes: int
    own_bytes: int
    erasable: bool
    reuses: _containers.RepeatedScalarFieldContainer[str]
    consolidated: bool
    def __init__(self, task: _Optional[str] = ..., gate: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[LayerUsage, _Mapping]]] = ..., trajectory: _Optional[_Iterable[_Union[MaskPoint, _Mapping]]] = ..., parameters: _Optional[int] = ..., worst_case: _Optional[int] = ..., weight_bytes: _Optional[int] = ..., mask_bytes: _Optional[int] = ..., own_bytes: _Optional[int] = ..., erasable: bool = ..., reuses: _Optional[_Iterable[str]] = ..., consolidated: bool = ...) -> None: ...

class LayerUsage(_message.Message):
    __slots__ = ("layer", "size", "reserved", "reused", "free")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    REUSED_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    size: int
    reserved: int
    reused: int
    free: int
    def __init__(self, layer: _Optional[str] = ..., size: _Optional[int] = ..., reserved: _Optional[int] = ..., reused: _Optional[int] = ..., free: _Optional[int] = ...) -> None: ...

class MaskPoint(_message.Message):
    __slots__ = ("step", "slope", "occupancy")
    class OccupancyEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    SLOPE_FIELD_NUMBER: _ClassVar[int]
    OCCUPANCY_FIELD_NUMBER: _ClassVar[int]
    step: int
    slope: float
    occupancy: _containers.ScalarMap[str, float]
    def __init__(self, step: _Optional[int] = ..., slope: _Optional[float] = ..., occupancy: _Optional[_Mapping[str, float]] = ...) -> None: ...

class LearnTaskRequest(_message.Message):
    __slots__ = ("header", "chunk", "finish")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    header: LearnTaskHeader
    chunk: LearnTaskChunk
    finish: LearnTaskFinish
    def __init__(self, header: _Optional[_Union[LearnTaskHeader, _Mapping]] = ..., chunk: _Optional[_Union[LearnTaskChunk, _Mapping]] = ..., finish: _Optional[_Union[LearnTaskFinish, _Mapping]] = ...) -> None: ...

class LearnTaskHeader(_message.Message):
    __slots__ = ("memory", "task", "spec", "classes", "count", "kind", "options", "steps", "seconds", "min_quality", "erasable", "revises")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MIN_QUALITY_FIELD_NUMBER: _ClassVar[int]
    ERASABLE_FIELD_NUMBER: _ClassVar[int]
    REVISES_FIELD_NUMBER: _ClassVar[int]
    memory: str
    task: str
    spec: DataSpec
    classes: _containers.RepeatedCompositeFieldContainer[ClassLabel]
    count: int
    kind: str
    options: _containers.ScalarMap[str, str]
    steps: int
    seconds: float
    min_quality: float
    erasable: bool
    revises: str
    def __init__(self, memory: _Optional[str] = ..., task: _Optional[str] = ..., spec: _Optional[_Union[DataSpec, _Mapping]] = ..., classes: _Optional[_Iterable[_Union[ClassLabel, _Mapping]]] = ..., count: _Optional[int] = ..., kind: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., steps: _Optional[int] = ..., seconds: _Optional[float] = ..., min_quality: _Optional[float] = ..., erasable: bool = ..., revises: _Optional[str] = ...) -> None: ...

class LearnTaskChunk(_message.Message):
    __slots__ = ("x", "y", "new_classes")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    NEW_CLASSES_FIELD_NUMBER: _ClassVar[int]
    x: bytes
    y: bytes
    new_classes: _containers.RepeatedCompositeFieldContainer[ClassLabel]
    def __init__(self, x: _Optional[bytes] = ..., y: _Optional[bytes] = ..., new_classes: _Optional[_Iterable[_Union[ClassLabel, _Mapping]]] = ...) -> None: ...

class LearnTaskFinish(_message.Message):
    __slots__ = ("count", "digest", "padding")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    count: int
    digest: bytes
    padding: bytes
    def __init__(self, count: _Optional[int] = ..., digest: _Optional[bytes] = ..., padding: _Optional[bytes] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("memory", "task", "state", "classes", "count", "waiting_for", "progress", "error", "revision", "quality", "steps", "learn_seconds", "created_unix_ms", "finished_unix_ms", "error_reason", "queue_position", "starts_in_seconds", "consolidated")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LEARN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    STARTS_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CONSOLIDATED_FIELD_NUMBER: _ClassVar[int]
    memory: str
    task: str
    state: TaskState
    classes: _containers.RepeatedCompositeFieldContainer[ClassLabel]
    count: int
    waiting_for: str
    progress: TaskProgress
    error: str
    revision: int
    quality: float
    steps: int
    learn_seconds: float
    created_unix_ms: int
    finished_unix_ms: int
    error_reason: str
    queue_position: int
    starts_in_seconds: float
    consolidated: bool
    def __init__(self, memory: _Optional[str] = ..., task: _Optional[str] = ..., state: _Optional[_Union[TaskState, str]] = ..., classes: _Optional[_Iterable[_Union[ClassLabel, _Mapping]]] = ..., count: _Optional[int] = ..., waiting_for: _Optional[str] = ..., progress: _Optional[_Union[TaskProgress, _Mapping]] = ..., error: _Optional[str] = ..., revision: _Optional[int] = ..., quality: _Optional[float] = ..., steps: _Optional[int] = ..., learn_seconds: _Optional[float] = ..., created_unix_ms: _Optional[int] = ..., finished_unix_ms: _Optional[int] = ..., error_reason: _Optional[str] = ..., queue_position: _Optional[int] = ..., starts_in_seconds: _Optional[float] = ..., consolidated: bool = ...) -> None: ...

class TaskProgress(_message.Message):
    __slots__ = ("phase", "step", "steps", "fraction", "seconds_left", "metrics", "resumed_from_step")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    phase: str
    step: int
    steps: int
    fraction: float
    seconds_left: float
    metrics: _containers.ScalarMap[str, float]
    resumed_from_step: int
    def __init__(self, phase: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., fraction: _Optional[float] = ..., seconds_left: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., resumed_from_step: _Optional[int] = ...) -> None: ...

class GetTaskRequest(_message.Message):
    __slots__ = ("memory", "task")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    memory: str
    task: str
    def __init__(self, memory: _Optional[str] = ..., task: _Optional[str] = ...) -> None: ...

class ListTasksRequest(_message.Message):
    __slots__ = ("memory",)
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    memory: str
    def __init__(self, memory: _Optional[str] = ...) -> None: ...

class ListTasksResponse(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ...) -> None: ...

class WatchTaskRequest(_message.Message):
    __slots__ = ("memory", "task", "until_consolidated")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    UNTIL_CONSOLIDATED_FIELD_NUMBER: _ClassVar[int]
    memory: str
    task: str
    until_consolidated: bool
    def __init__(self, memory: _Optional[str] = ..., task: _Optional[str] = ..., until_consolidated: bool = ...) -> None: ...

class CancelTaskRequest(_message.Message):
    __slots__ = ("memory", "task")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    memory: str
    task: str
    def __init__(self, memory: _Optional[str] = ..., task: _Optional[str] = ...) -> None: ...

class ForgetTaskRequest(_message.Message):
    __slots__ = ("memory", "task")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    memory: str
    task: str
    def __init__(self, memory: _Optional[str] = ..., task: _Optional[str] = ...) -> None: ...

class SleepRequest(_message.Message):
    __slots__ = ("memory",)
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    memory: str
    def __init__(self, memory: _Optional[str] = ...) -> None: ...

class SleepResponse(_message.Message):
    __slots__ = ("queued", "progress", "memory")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    queued: SleepQueued
    progress: TaskProgress
    memory: Memory
    def __init__(self, queued: _Optional[_Union[SleepQueued, _Mapping]] = ..., progress: _Optional[_Union[TaskProgress, _Mapping]] = ..., memory: _Optional[_Union[Memory, _Mapping]] = ...) -> None: ...

class SleepQueued(_message.Message):
    __slots__ = ("waiting_for", "queue_position", "starts_in_seconds")
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    STARTS_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    waiting_for: str
    queue_position: int
    starts_in_seconds: float
    def __init__(self, waiting_for: _Optional[str] = ..., queue_position: _Optional[int] = ..., starts_in_seconds: _Optional[float] = ...) -> None: ...

class ExportMemoryRequest(_message.Message):
    __slots__ = ("memory",)
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    memory: str
    def __init__(self, memory: _Optional[str] = ...) -> None: ...

class ExportMemoryResponse(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: ExportMemoryHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[ExportMemoryHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ExportMemoryHeader(_message.Message):
    __slots__ = ("revision", "bytes")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    bytes: int
    def __init__(self, revision: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class ImportMemoryRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: ImportMemoryHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[ImportMemoryHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ImportMemoryHeader(_message.Message):
    __slots__ = ("memory",)
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    memory: str
    def __init__(self, memory: _Optional[str] = ...) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("memory", "classes", "tasks", "n", "batch_size", "seed", "start_at", "revision", "format", "shared_memory", "stride", "precision")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    START_AT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    memory: str
    classes: _containers.RepeatedCompositeFieldContainer[ClassLabel]
    tasks: _containers.RepeatedScalarFieldContainer[str]
    n: int
    batch_size: int
    seed: int
    start_at: int
    revision: int
    format: Format
    shared_memory: SharedMemory
    stride: int
    precision: Precision
    def __init__(self, memory: _Optional[str] = ..., classes: _Optional[_Iterable[_Union[ClassLabel, _Mapping]]] = ..., tasks: _Optional[_Iterable[str]] = ..., n: _Optional[int] = ..., batch_size: _Optional[int] = ..., seed: _Optional[int] = ..., start_at: _Optional[int] = ..., revision: _Optional[int] = ..., format: _Optional[_Union[Format, _Mapping]] = ..., shared_memory: _Optional[_Union[SharedMemory, _Mapping]] = ..., stride: _Optional[int] = ..., precision: _Optional[_Union[Precision, str]] = ...) -> None: ...

class SharedMemory(_message.Message):
    __slots__ = ("pid", "fd", "nonce", "size")
    PID_FIELD_NUMBER: _ClassVar[int]
    FD_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    pid: int
    fd: int
    nonce: bytes
    size: int
    def __init__(self, pid: _Optional[int] = ..., fd: _Optional[int] = ..., nonce: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class SharedRows(_message.Message):
    __slots__ = ("position", "length")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    position: int
    length: int
    def __init__(self, position: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class SampleResponse(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: SampleHeader
    chunk: SampleChunk
    def __init__(self, header: _Optional[_Union[SampleHeader, _Mapping]] = ..., chunk: _Optional[_Union[SampleChunk, _Mapping]] = ...) -> None: ...

class SampleHeader(_message.Message):
    __slots__ = ("revision", "spec", "classes", "batch_size", "layout", "shared")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    spec: DataSpec
    classes: _containers.RepeatedCompositeFieldContainer[ClassLabel]
    batch_size: int
    layout: Layout
    shared: bool
    def __init__(self, revision: _Optional[int] = ..., spec: _Optional[_Union[DataSpec, _Mapping]] = ..., classes: _Optional[_Iterable[_Union[ClassLabel, _Mapping]]] = ..., batch_size: _Optional[int] = ..., layout: _Optional[_Union[Layout, str]] = ..., shared: bool = ...) -> None: ...

class SampleChunk(_message.Message):
    __slots__ = ("row", "x", "y", "shared")
    ROW_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    row: int
    x: bytes
    y: bytes
    shared: SharedRows
    def __init__(self, row: _Optional[int] = ..., x: _Optional[bytes] = ..., y: _Optional[bytes] = ..., shared: _Optional[_Union[SharedRows, _Mapping]] = ...) -> None: ...

class InterpolateRequest(_message.Message):
    __slots__ = ("memory", "start", "end", "weights", "n", "seed", "groups", "layers", "start_class", "end_class", "start_at", "revision", "format", "shared_memory")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    START_CLASS_FIELD_NUMBER: _ClassVar[int]
    END_CLASS_FIELD_NUMBER: _ClassVar[int]
    START_AT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    memory: str
    start: str
    end: str
    weights: _containers.RepeatedScalarFieldContainer[float]
    n: int
    seed: int
    groups: _containers.RepeatedScalarFieldContainer[str]
    layers: _containers.RepeatedScalarFieldContainer[str]
    start_class: ClassLabel
    end_class: ClassLabel
    start_at: int
    revision: int
    format: Format
    shared_memory: SharedMemory
    def __init__(self, memory: _Optional[str] = ..., start: _Optional[str] = ..., end: _Optional[str] = ..., weights: _Optional[_Iterable[float]] = ..., n: _Optional[int] = ..., seed: _Optional[int] = ..., groups: _Optional[_Iterable[str]] = ..., layers: _Optional[_Iterable[str]] = ..., start_class: _Optional[_Union[ClassLabel, _Mapping]] = ..., end_class: _Optional[_Union[ClassLabel, _Mapping]] = ..., start_at: _Optional[int] = ..., revision: _Optional[int] = ..., format: _Optional[_Union[Format, _Mapping]] = ..., shared_memory: _Optional[_Union[SharedMemory, _Mapping]] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("memory", "spec", "x", "task", "padding")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    memory: str
    spec: DataSpec
    x: bytes
    task: str
    padding: bytes
    def __init__(self, memory: _Optional[str] = ..., spec: _Optional[_Union[DataSpec, _Mapping]] = ..., x: _Optional[bytes] = ..., task: _Optional[str] = ..., padding: _Optional[bytes] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("classes", "y", "probabilities", "revision")
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedCompositeFieldContainer[ClassLabel]
    y: bytes
    probabilities: bytes
    revision: int
    def __init__(self, classes: _Optional[_Iterable[_Union[ClassLabel, _Mapping]]] = ..., y: _Optional[bytes] = ..., probabilities: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...
