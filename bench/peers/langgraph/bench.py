"""The cases with LangGraph: a `StateGraph`, without a checkpointer where none is asked for, its fastest form.

The recursion limit is raised, since a chain is one run of n steps. The durable cases use its SQLite saver with
`durability="sync"`, which is when a step begins only after the last one is stored, as Flowstone does.
"""

import asyncio
import operator
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Annotated, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

sys.path.insert(0, str(Path(__file__).parent.parent))
from measure import Case, main  # noqa: E402  (the shared module lies beside the peers' folders)

RING = ["a", "b", "c", "d"]


class Count(TypedDict):
    done: int
    of: int


class Steps(TypedDict):
    steps: int


class Batch(TypedDict):
    items: int
    outputs: Annotated[list, operator.add]


def add(state):
    return {"done": state["done"] + 1}


async def add_async(state):
    return {"done": state["done"] + 1}


async def wait(state):
    await asyncio.sleep(0.05)
    return {"steps": state["steps"] + 1}


async def one_item(item):
    await asyncio.sleep(0.01)
    return {"outputs": [item]}


def ring(node):
    graph = StateGraph(Count)
    for name in RING:
        graph.add_node(name, node)
    graph.add_edge(START, RING[0])
    for index, name in enumerate(RING):
        following = RING[(index + 1) % len(RING)]
        graph.add_conditional_edges(
            name,
            lambda state: "on" if state["done"] < state["of"] else "out",
            {"on": following, "out": END},
        )
    return graph.compile()


def chain(n):
    assert ring(add).invoke({"done": 0, "of": n}, {"recursion_limit": n + 10})["done"] == n


def async_chain(n):
    run = ring(add_async).ainvoke({"done": 0, "of": n}, {"recursion_limit": n + 10})
    assert asyncio.run(run)["done"] == n


def concurrent(n):
    graph = StateGraph(Steps)
    for name in ("a", "b", "c"):
        graph.add_node(name, wait)
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_edge("b", "c")
    graph.add_edge("c", END)
    compiled = graph.compile()

    async def all_at_once():
        return await asyncio.gather(*(compiled.ainvoke({"steps": 0}) for _ in range(n)))

    assert sum(state["steps"] for state in asyncio.run(all_at_once())) == 3 * n


def fan(n, config):
    graph = StateGraph(Batch)
    graph.add_node("spread", lambda state: {})
    graph.add_node("item", one_item)
    graph.add_edge(START, "spread")
    graph.add_conditional_edges("spread", lambda state: [Send("item", item) for item in range(state["items"])], ["item"])
    graph.add_edge("item", END)
    state = asyncio.run(graph.compile().ainvoke({"items": n, "outputs": []}, config))
    assert state["outputs"] == list(range(n))


def fanout(n):
    fan(n, {})


def fanout_100(n):
    fan(n, {"max_concurrency": 100})


class Chat(TypedDict):
    messages: list
    turns: int
    of: int


def chat(messages, turns):
    letters = "etaoin shrdlucmfwypvbgkqjxz"
    chosen = random.Random(1)
    texts = ("".join(chosen.choices(letters, k=200)) for _ in range(messages))
    roles = ("user", "assistant")
    return {
        "messages": [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)],
        "turns": 0,
        "of": turns,
    }


def durable(runs, turns, messages):
    """So many runs at once, each a loop of so many steps that counts; returns the size of the store."""
    graph = StateGraph(Chat)
    graph.add_node("turn", lambda state: {"turns": state["turns"] + 1})
    graph.add_edge(START, "turn")
    graph.add_conditional_edges(
        "turn", lambda state: "again" if state["turns"] < state["of"] else "done", {"again": "turn", "done": END}
    )

    async def all_at_once(path):
        async with AsyncSqliteSaver.from_conn_string(path) as saver:
            compiled = graph.compile(checkpointer=saver)
            config = {"recursion_limit": turns + 10}
            started = (
                compiled.ainvoke(
                    chat(messages, turns), {**config, "configurable": {"thread_id": f"run-{run}"}}, durability="sync"
                )
                for run in range(runs)
            )
            return await asyncio.gather(*started)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "runs.db")
        states = asyncio.run(all_at_once(path))
        assert all(state["turns"] == turns for state in states)
        return os.path.getsize(path)


def durable_chain(n):
    return durable(1, n, 50)


def durable_many(n):
    runs = min(1_000, n)
    return durable(runs, n // runs, 1)


def durable_many_chats(n):
    runs = min(1_000, n)
    return durable(runs, n // runs, 50)


if __name__ == "__main__":
    main(
        "LangGraph",
        {
            "chain": Case(chain, 10_000),
            "async-chain": Case(async_chain, 5_000),
            "concurrent": Case(concurrent, 1_000, memory=True),
            "fanout": Case(fanout, 5_000, memory=True),
            "fanout-100": Case(fanout_100, 5_000, memory=True),
            "durable-chain": Case(durable_chain, 1_000),
            "durable-many": Case(durable_many, 5_000),
            "durable-many-chats": Case(durable_many_chats, 5_000),
        },
    )
