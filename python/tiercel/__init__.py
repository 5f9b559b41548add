"""Tiercel: the KV cache of LLM inference beyond GPU memory.

    import tiercel

    with tiercel.Cache.open(host={"capacity": "8GiB"}) as cache:
        session = cache.open_session(model=tiercel.ModelIdentity(name="example", kv_dtype="f16"),
                                     layout=tiercel.Layout.blob(512 << 10), block_tokens=64)
        chain = tiercel.BlockChain(session.space(), prompt_tokens)
        load = session.load(chain, session.match(chain).blocks, deadline_s=0.05)
        for block in load.wait():          # read-only memoryviews
            engine.restore(block)

Every call that may wait or takes long gives the interpreter's lock up, and none waits longer than its deadline.
"""

from . import errors
from ._core import (
    Axis,
    BlockChain,
    Cache,
    Client,
    CommitFailure,
    Committed,
    Config,
    Copy,
    DiskDirectoryState,
    DiskReport,
    Dropped,
    EngineTensor,
    ErrorCode,
    ExtraKey,
    Group,
    GroupKind,
    Layout,
    Load,
    LoadOutcome,
    Match,
    Mode,
    ModelIdentity,
    OpaqueRuns,
    Pin,
    Reservation,
    Reserved,
    Run,
    Session,
    SessionGroup,
    Space,
    StartOptions,
    StateKind,
    Stats,
    TierId,
    TierStats,
    Transfer,
    Writer,
    __version__,
    calibrate_gpu,
    default_socket_path,
    error_name,
    file_digest,
    format_bytes,
    hash_blocks,
    parse_bytes,
    private_socket_path,
)
from .errors import (
    ClosedError,
    CorruptError,
    DroppedError,
    Error,
    IncompleteError,
    InvalidArgumentError,
    IoError,
    LimitError,
    NoParentError,
    NotFoundError,
    OutOfMemoryError,
    TimeoutError,
    UnknownKeyError,
    UnsupportedError,
)

__all__ = [name for name in dir() if not name.startswith("_")] + ["__version__"]
