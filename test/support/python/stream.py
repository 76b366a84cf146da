"""The Python client's thread streams, async and sync, over one transport, against a running server.

Prints a line of JSON for each thing done, for whoever started it to compare; waits for a line of input after `half`.
Usage: stream.py URL TRANSPORT GATE
"""

import asyncio
import json
import sys

from langgraph_sdk import get_client, get_sync_client

URL, TRANSPORT, GATE = sys.argv[1:]
STEPS = ["values", "messages", "tools", "lifecycle", "input", "checkpoints"]


def show(**what):
    print(json.dumps(what), flush=True)


def says(words):
    return {"messages": [{"type": "human", "content": words}]}


def contents(values):
    return [text(message["content"]) for message in values["messages"]]


def text(content):
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


async def finished(message):
    done = await message
    return {"text": done.text, "calls": [[call["name"], call["args"]] for call in done.tool_calls]}


async def weather(client):
    async with client.threads.stream(assistant_id="agent", transport=TRANSPORT) as thread:
        await thread.run.start(input=says("weather Oslo"))
        seen = {"messages": [], "tool_calls": [], "values": [], "progress": []}
        # One subscription: the client moves on between several, and later ones begin where earlier ones are.
        async for name, item in thread.interleave_projections(list(seen)):
            seen[name].append(contents(item) if name == "values" else item)
        calls = [[call.name, call.tool_call_id, call.input, text((await call.output)["content"])] for call in seen["tool_calls"]]
        messages = [await finished(message) for message in seen["messages"]]
        show(messages=messages, calls=calls, values=seen["values"], progress=seen["progress"], output=contents(await thread.output))


async def team(client):
    async with client.threads.stream(assistant_id="team", transport=TRANSPORT) as thread:
        await thread.run.start(input=says("story "))
        graphs = [graph async for graph in thread.subgraphs]
        writer = next(graph for graph in graphs if graph.graph_name == "writer")
        # They are fed while the loop turns, so they are finished after it.
        told = [message async for message in writer.messages]
        show(graph=writer.graph_name, status=writer.status, told=[(await finished(each))["text"] for each in told])


async def approval(client):
    async with client.threads.stream(assistant_id="approval", transport=TRANSPORT) as thread:
        await thread.run.start(input=says("may we?"))
        while len(thread.interrupts) < 2:
            await asyncio.sleep(0.02)
        asked = [[each["value"], each["namespace"]] for each in thread.interrupts]
        ada, bob = [each["interrupt_id"] for each in thread.interrupts]
        await thread.run.respond("yes", interrupt_id=ada)
        steps = thread.subscribe(["lifecycle"], namespaces=[[]], depth=0)
        seen = []
        async for step in steps:
            seen.append(step["params"]["data"]["event"])
            if seen[-1] == "interrupted":
                await thread.run.respond("no", interrupt_id=bob)
        show(asked=asked, steps=seen, output=contents(await thread.output), left=thread.interrupts)


async def story(client):
    async with client.threads.stream(assistant_id="agent", transport=TRANSPORT) as thread:
        await thread.run.start(input=says(f"story {GATE}"))
        deltas, ids = [], []
        async for event in thread.subscribe(STEPS):
            ids.append(event["event_id"])
            if event["method"] == "messages":
                deltas.append(event["params"]["data"].get("delta", {}).get("text", ""))
                if sum(map(bool, deltas)) == 12 and deltas[-1]:
                    show(half=True)
                    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        show(told="".join(deltas), twice=len(ids) - len(set(ids)), output=contents(await thread.output))


async def elsewhere(client):
    thread_id = (await client.threads.create())["thread_id"]
    async with client.threads.stream(thread_id, assistant_id="agent", transport=TRANSPORT) as thread:
        seen = thread.subscribe(["lifecycle", "values"], namespaces=[[]], depth=0)
        first = asyncio.ensure_future(anext(seen))
        while not thread._subscriptions or thread._shared_stream is None or not thread._shared_stream.ready.done():
            await asyncio.sleep(0.02)
        await client.runs.create(thread_id, "agent", input=says("weather Oslo"))
        events = [await first] + [event async for event in seen]
        show(methods=[event["method"] for event in events if event["method"] != "checkpoints"])


def sync():
    client = get_sync_client(url=URL)
    with client.threads.stream(assistant_id="agent", transport=TRANSPORT) as thread:
        thread.run.start(input=says("weather Oslo"))
        texts = [message.output.text for message in thread.messages]
        show(sync=texts, output=contents(thread.output))


async def main():
    client = get_client(url=URL)
    for scene in (weather, team, approval, elsewhere, story):
        await asyncio.wait_for(scene(client), 60)
    await asyncio.to_thread(sync)


asyncio.run(main())
