import asyncio

from memory_server import app


async def test_the_sweeping_of_checkpoints_goes_on_after_a_sweep_that_failed(monkeypatch):
    swept, twice = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    class Failing:
        def expire(self):
            swept.append(1)
            if len(swept) == 2:
                loop.call_soon_threadsafe(twice.set)
            raise OSError("the disk fails")

    monkeypatch.setattr(app, "_SECONDS_BETWEEN_SWEEPS", 0.0)
    sweeping = asyncio.create_task(app._expire(Failing()))
    await asyncio.wait_for(twice.wait(), 10)
    sweeping.cancel()
