"""How a call ended, as the server said it."""

from collections.abc import Coroutine
from typing import Any

import grpc

_OVERWRITTEN = "Internal error from Core"


class Ending:
    """Notes the status with which a server ends a call.

    If a message is on its way at that moment, gRPC replaces that status by one of its own, which says nothing.

    Arguments:
        call: a call of grpc.aio that has not ended.
    """

    def __init__(self, call: Any) -> None:
        self._noted: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    def truly(self, error: grpc.RpcError) -> grpc.RpcError:
        """The error with which the server ended the call; `error` itself, unless it replaced that one."""
        replaced = error.code() is grpc.StatusCode.INTERNAL and error.details() == _OVERWRITTEN
        return self._noted if replaced and self._noted is not None else error

    def _note(self, call: Any) -> None:
        if self._noted is None:
            code, details, metadata = (_known(each) for each in (call.code(), call.details(), call.trailing_metadata()))
            self._noted = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details)


def _known(value: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that has nothing to wait for, once a call has ended."""
    try:
        value.send(None)
    except StopIteration as done:
        return done.value
    value.close()
    raise RuntimeError("the call has not ended")
