"""Responses that end together: they are completed a few at a time, in order, and other work of the event loop comes between."""

from __future__ import annotations

import asyncio

from llmendpoint_loadjob.client.turnstile import Turnstile

COUNT = 50


async def test_few_pass_in_each_turn_of_the_event_loop() -> None:
    turnstile = Turnstile()
    passed: list[int] = []
    in_turns: list[int] = []

    async def one(number: int) -> None:
        await turnstile.pass_through()
        passed.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(COUNT)]
    before = 0
    while len(passed) < COUNT:
        await asyncio.sleep(0)
        in_turns.append(len(passed) - before)
        before = len(passed)
    await asyncio.gather(*tasks)
    assert passed == list(range(COUNT))
    assert max(in_turns) <= 8


async def test_more_pass_if_many_wait() -> None:
    turnstile = Turnstile()
    tasks = [asyncio.create_task(turnstile.pass_through()) for _ in range(1000)]
    turns = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turns += 1
    assert turns < 200


async def test_all_that_wait_can_be_released() -> None:
    turnstile = Turnstile()
    tasks = [asyncio.create_task(turnstile.pass_through()) for _ in range(1000)]
    await asyncio.sleep(0)
    turnstile.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    await turnstile.pass_through()


async def test_a_single_one_does_not_wait() -> None:
    turnstile = Turnstile()
    for _ in range(3):
        passing = turnstile.pass_through()
        # A coroutine that does not wait ends in its first step.
        try:
            passing.send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("it waits")
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_one_that_is_cancelled_keeps_no_other_waiting() -> None:
    turnstile = Turnstile()
    tasks = [asyncio.create_task(turnstile.pass_through()) for _ in range(COUNT)]
    await asyncio.sleep(0)
    for task in tasks[:-1]:
        task.cancel()
    await asyncio.wait_for(tasks[-1], 5)
