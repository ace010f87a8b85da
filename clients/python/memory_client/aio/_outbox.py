"""Messages of a task on their way to a server."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

from memory_client._lesson import not_taken
from memory_client.aio._ending import Ending
from memory_client.aio.channel import Connection, Silent
from memory_client.errors import MemoryServiceError

T = TypeVar("T")
Reply = TypeVar("Reply")


class Outbox(Generic[Reply]):
    """One call that takes a stream of messages and gives one reply.

    Arguments:
        method: of the stub.
        patient: whether the reply may take as long as the connection is alive, once all is sent.
    """

    def __init__(self, connection: Connection, method: Any, patient: bool = False) -> None:
        self._connection = connection
        self._patient = patient
        self._call = method()
        self._ending = Ending(self._call)
        self._accepted = False

    async def put(self, message: Any) -> bool:
        """Sends a message; False once the call has ended: its answer says why.

        The first one says what the others are about: it is sent once the server has accepted that.
        """
        try:
            await self._step(self._call.write(message))
            if not self._accepted:
                await self._step(self._call.initial_metadata())
                self._accepted = True
        except (MemoryServiceError, asyncio.InvalidStateError):
            if not self._call.done():
                raise
            return False
        return True

    async def reply(self) -> Reply:
        """Ends the messages and waits for the answer."""
        await self._step(self._call.done_writing())
        reply: Reply = await self._step(self._call, patient=self._patient)
        return reply

    def close(self) -> None:
        """Cancels the call, if it has not ended."""
        self._call.cancel()

    async def _step(self, awaitable: Awaitable[T], patient: bool = False) -> T:
        try:
            return await self._connection.step(self._call, awaitable, self._ending, patient)
        except Silent:
            raise not_taken(self._connection.target, self._connection.silence) from None
