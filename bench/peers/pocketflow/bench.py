"""The cases with PocketFlow.

`fanout-100` is missing: PocketFlow's parallel batch has no limit, and a semaphore inside the user's own `exec` would
measure that semaphore.
"""

import asyncio
import sys
from pathlib import Path

from pocketflow import AsyncFlow, AsyncNode, AsyncParallelBatchNode, Flow, Node

sys.path.insert(0, str(Path(__file__).parent.parent))
from measure import Case, main  # noqa: E402  (the shared module lies beside the peers' folders)

RING = 4


class Add(Node):
    def prep(self, shared):
        return shared["done"]

    def exec(self, prep_res):
        return prep_res + 1

    def post(self, shared, prep_res, exec_res):
        shared["done"] = exec_res
        return "on" if exec_res < shared["of"] else "out"


class AsyncAdd(AsyncNode):
    async def prep_async(self, shared):
        return shared["done"]

    async def exec_async(self, prep_res):
        return prep_res + 1

    async def post_async(self, shared, prep_res, exec_res):
        shared["done"] = exec_res
        return "on" if exec_res < shared["of"] else "out"


class Wait(AsyncNode):
    async def exec_async(self, prep_res):
        await asyncio.sleep(0.05)

    async def post_async(self, shared, prep_res, exec_res):
        shared["steps"] += 1
        return "default"


class Items(AsyncParallelBatchNode):
    async def prep_async(self, shared):
        return range(shared["items"])

    async def exec_async(self, item):
        await asyncio.sleep(0.01)
        return item

    async def post_async(self, shared, prep_res, exec_res):
        shared["outputs"] = exec_res


class Last(Node):
    """Where the ring ends: without this edge PocketFlow warns of a missing one."""


def ring(nodes, last):
    for index, node in enumerate(nodes):
        node - "on" >> nodes[(index + 1) % len(nodes)]
        node - "out" >> last
    return nodes[0]


def chain(n):
    shared = {"done": 0, "of": n}
    Flow(start=ring([Add() for _ in range(RING)], Last())).run(shared)
    assert shared["done"] == n


def async_chain(n):
    shared = {"done": 0, "of": n}
    asyncio.run(AsyncFlow(start=ring([AsyncAdd() for _ in range(RING)], Last())).run_async(shared))
    assert shared["done"] == n


def concurrent(n):
    first, second, third = Wait(), Wait(), Wait()
    first >> second >> third
    flow = AsyncFlow(start=first)

    async def one():
        shared = {"steps": 0}
        await flow.run_async(shared)
        return shared["steps"]

    async def all_at_once():
        return await asyncio.gather(*(one() for _ in range(n)))

    assert sum(asyncio.run(all_at_once())) == 3 * n


def fanout(n):
    shared = {"items": n}
    asyncio.run(AsyncFlow(start=Items()).run_async(shared))
    assert shared["outputs"] == list(range(n))


if __name__ == "__main__":
    main(
        "PocketFlow",
        {
            "chain": Case(chain, 500_000),
            "async-chain": Case(async_chain, 500_000),
            "concurrent": Case(concurrent, 20_000, memory=True),
            "fanout": Case(fanout, 100_000, memory=True),
        },
    )
