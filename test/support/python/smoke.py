"""Every method of the Python client whose route exists, against a running server: sync and async alike.

Prints one JSON object: what passed, what failed and why, and which methods of the clients nothing called.
Usage: smoke.py URL
"""

import asyncio
import inspect
import json
import sys
import traceback
import uuid
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

RESOURCES = ("assistants", "threads", "runs", "crons", "store")
# Threads' streams have a test of their own: stream.py.
ABSENT = {"threads.stream"}
NOBODY = "00000000-0000-4000-8000-000000000000"


class Client:
    """A client of either kind, called as if it were sync; streams come as lists, or as far as `until` says."""

    def __init__(self, client, loop=None):
        self.client, self.loop, self.called = client, loop, set()

    def __getattr__(self, resource):
        return Resource(self, resource)

    def finish(self, result, until=None):
        if inspect.isawaitable(result):
            result = self.loop.run_until_complete(result)
        if inspect.isasyncgen(result) or hasattr(result, "__anext__"):
            return self.loop.run_until_complete(self.gather(result, until))
        if inspect.isgenerator(result) or hasattr(result, "__next__"):
            parts = []
            for part in result:
                parts.append(part)
                if until and until(part):
                    result.close()
                    break
            return parts
        return result

    async def gather(self, stream, until):
        parts = []
        async for part in stream:
            parts.append(part)
            if until and until(part):
                await stream.aclose()
                break
        return parts


class Resource:
    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __getattr__(self, method):
        bound = getattr(getattr(self.owner.client, self.name), method)

        def call(*args, until=None, **kwargs):
            self.owner.called.add(f"{self.name}.{method}")
            return self.owner.finish(bound(*args, **kwargs), until)

        return call


def same(got, wanted):
    assert got == wanted, f"got {got!r}, not {wanted!r}"


def raises(kind, call, *, says, code):
    try:
        call()
    except kind as error:
        assert says in error.message, f"{error.message!r} does not say {says!r}"
        same(error.code, code)
        assert error.request_id, "no request id"
        return error
    raise AssertionError(f"no {kind.__name__}")


def events(parts):
    return [part.event for part in parts]


# ---------------------------------------------------------------------------------------------- assistants


def assistants_are_created_read_and_deleted(c):
    made = c.assistants.create(
        "notes",
        {"tags": ["a"], "recursion_limit": 7, "configurable": {"tone": "warm"}},
        context={"who": "ada"},
        metadata={"team": "blue"},
        name="Notes of Ada",
        description="Notes",
    )
    same(made["config"], {"tags": ["a"], "recursion_limit": 7, "configurable": {"tone": "warm"}})
    same(
        {key: made[key] for key in ("graph_id", "context", "metadata", "name", "description", "version")},
        {
            "graph_id": "notes",
            "context": {"who": "ada"},
            "metadata": {"team": "blue"},
            "name": "Notes of Ada",
            "description": "Notes",
            "version": 1,
        },
    )
    id = made["assistant_id"]
    same(c.assistants.get(id), made)
    raises(
        ConflictError,
        lambda: c.assistants.create("notes", assistant_id=id),
        says="exists",
        code="assistant_exists",
    )
    same(c.assistants.create("notes", assistant_id=id, if_exists="do_nothing"), made)
    raises(NotFoundError, lambda: c.assistants.create("no-such-graph"), says="no-such-graph", code="graph_not_found")
    c.assistants.delete(id)
    raises(NotFoundError, lambda: c.assistants.get(id), says=id, code="assistant_not_found")
    raises(NotFoundError, lambda: c.assistants.delete(id), says=id, code="assistant_not_found")


def assistants_have_versions(c):
    made = c.assistants.create("notes", metadata={"n": 1, "kept": True}, name="First")
    id = made["assistant_id"]
    second = c.assistants.update(id, metadata={"n": 2}, name="Second", config={"recursion_limit": 9}, context={"k": 1})
    same((second["version"], second["metadata"], second["name"]), (2, {"n": 2, "kept": True}, "Second"))
    third = c.assistants.update(id, description="Third", graph_id="parrot")
    same((third["version"], third["name"], third["graph_id"]), (3, "Second", "parrot"))
    versions = c.assistants.get_versions(id)
    same([v["version"] for v in versions], [3, 2, 1])
    same([v["graph_id"] for v in versions], ["parrot", "notes", "notes"])
    same([v["version"] for v in c.assistants.get_versions(id, limit=1, offset=1)], [2])
    same([v["version"] for v in c.assistants.get_versions(id, metadata={"n": 1})], [1])
    back = c.assistants.set_latest(id, 1)
    same((back["version"], back["name"], back["metadata"]), (1, "First", {"n": 1, "kept": True}))
    same(c.assistants.get(id)["graph_id"], "notes")
    raises(NotFoundError, lambda: c.assistants.set_latest(id, 9), says="9", code="version_not_found")


def assistants_are_searched_counted_and_paged(c):
    mark = uuid.uuid4().hex
    ids = [
        c.assistants.create("notes", metadata={"mark": mark}, name=f"{name} {mark}")["assistant_id"]
        for name in ("Cedar", "Alder", "Birch")
    ]
    by_name = dict(metadata={"mark": mark}, sort_by="name", sort_order="asc")
    found = c.assistants.search(**by_name)
    same([a["name"].split()[0] for a in found], ["Alder", "Birch", "Cedar"])
    first = c.assistants.search(**by_name, limit=2, response_format="object")
    same(([a["assistant_id"] for a in first["assistants"]], first["next"]), ([ids[1], ids[2]], "2"))
    rest = c.assistants.search(**by_name, limit=2, offset=2, response_format="object")
    same(([a["assistant_id"] for a in rest["assistants"]], rest["next"]), ([ids[0]], None))
    same(c.assistants.search(name=f"BIRCH {mark}", select=["assistant_id"]), [{"assistant_id": ids[2]}])
    same(c.assistants.count(metadata={"mark": mark}, graph_id="notes"), 3)
    same(c.assistants.count(metadata={"mark": mark}, name="alder"), 1)
    same(c.assistants.count(metadata={"mark": mark}, graph_id="parrot"), 0)
    raises(
        UnprocessableEntityError,
        lambda: c.assistants.search(limit=1001),
        says="body.limit: must be at most 1000",
        code="validation_failed",
    )


def graphs_are_drawn_and_described(c):
    drawn = c.assistants.get_graph("notes")
    same([n["id"] for n in drawn["nodes"]], ["__start__", "write", "review", "deepen", "__end__"])
    assert {"source": "write", "target": "review"} in [
        {key: e[key] for key in ("source", "target")} for e in drawn["edges"]
    ]
    deep = c.assistants.get_graph("notes", xray=True)
    assert "deepen:think" in [n["id"] for n in deep["nodes"]], deep["nodes"]
    schemas = c.assistants.get_schemas("notes")
    same(schemas["graph_id"], "notes")
    same(
        sorted(schemas),
        ["config_schema", "context_schema", "graph_id", "input_schema", "output_schema", "state_schema"],
    )
    same(list(c.assistants.get_subgraphs("notes")), ["deepen"])
    same(list(c.assistants.get_subgraphs("notes", namespace="deepen", recurse=True)), ["deepen"])
    raises(NotFoundError, lambda: c.assistants.get_graph("nope"), says="nope", code="assistant_not_found")


def assistants_go_with_their_threads(c):
    id = c.assistants.create("notes")["assistant_id"]
    thread = c.threads.create()["thread_id"]
    c.runs.wait(thread, id, input={"topic": "x"})
    c.assistants.delete(id, delete_threads=True)
    raises(NotFoundError, lambda: c.threads.get(thread), says=thread, code="thread_not_found")


# ---------------------------------------------------------------------------------------------- threads


def threads_are_created_changed_and_deleted(c):
    id = str(uuid.uuid4())
    made = c.threads.create(thread_id=id, metadata={"a": 1}, graph_id="notes", ttl={"ttl": 60, "strategy": "delete"})
    same((made["thread_id"], made["status"], made["metadata"]), (id, "idle", {"a": 1, "graph_id": "notes"}))
    same(made["values"], None)
    ttl = c.threads.get(id, include=["ttl"])["ttl"]
    same((ttl["strategy"], ttl["ttl_minutes"]), ("delete", 60))
    assert "ttl" not in c.threads.get(id)
    raises(ConflictError, lambda: c.threads.create(thread_id=id), says="exists", code="thread_exists")
    same(c.threads.create(thread_id=id, if_exists="do_nothing", metadata={"b": 1})["metadata"], made["metadata"])
    changed = c.threads.update(id, metadata={"b": 2}, ttl=30)
    same(changed["metadata"], {"a": 1, "b": 2, "graph_id": "notes"})
    same(c.threads.get(id, include=["ttl"])["ttl"]["ttl_minutes"], 30)
    same(c.threads.update(id, metadata={"c": 3}, return_minimal=True), None)
    same(c.threads.get(id)["metadata"]["c"], 3)
    c.threads.delete(id)
    raises(NotFoundError, lambda: c.threads.get(id), says=id, code="thread_not_found")
    raises(NotFoundError, lambda: c.threads.update(id, metadata={}), says=id, code="thread_not_found")
    raises(UnprocessableEntityError, lambda: c.threads.get("7"), says="path.thread_id: must be a UUID", code="validation_failed")


def threads_are_searched_and_counted(c):
    mark = uuid.uuid4().hex
    ids = [c.threads.create(metadata={"mark": mark, "n": n})["thread_id"] for n in range(3)]
    c.runs.wait(ids[1], "notes", input={"topic": "found"})
    c.runs.wait(ids[2], "notes", input={"topic": "asked", "ask": True})
    mine = dict(metadata={"mark": mark})
    oldest = c.threads.search(**mine, sort_by="created_at", sort_order="asc")
    same([t["thread_id"] for t in oldest], ids)
    same([t["status"] for t in oldest], ["idle", "idle", "interrupted"])
    same([t["thread_id"] for t in c.threads.search(**mine, sort_by="created_at", limit=1, offset=1)], [ids[1]])
    same([t["thread_id"] for t in c.threads.search(**mine, status="interrupted")], [ids[2]])
    same([t["thread_id"] for t in c.threads.search(**mine, values={"topic": "found"})], [ids[1]])
    same([t["thread_id"] for t in c.threads.search(ids=[ids[0], NOBODY])], [ids[0]])
    extracted = c.threads.search(
        **mine, status="interrupted", select=["thread_id"], extract={"last": "values.log[-1]", "topic": "values.topic"}
    )
    same(extracted, [{"thread_id": ids[2], "extracted": {"last": "wrote asked", "topic": "asked"}}])
    same(c.threads.count(**mine), 3)
    same(c.threads.count(**mine, status="idle"), 2)
    same(c.threads.count(**mine, values={"topic": "found"}), 1)


def threads_are_made_of_supersteps_and_copied(c):
    steps = [
        {"updates": [{"values": {"topic": "past"}, "as_node": "__start__"}]},
        {"updates": [{"values": {"log": ["wrote past"]}, "as_node": "write"}]},
    ]
    made = c.threads.create(graph_id="notes", supersteps=steps)
    state = c.threads.get_state(made["thread_id"])
    same((state["values"], state["next"]), ({"topic": "past", "log": ["wrote past"]}, ["review"]))
    before = {t["thread_id"] for t in c.threads.search(metadata={"graph_id": "notes"}, limit=1000)}
    # Says nothing in sync clients that drop it: the new thread is the one that was not there before.
    copied = c.threads.copy(made["thread_id"])
    after = c.threads.search(metadata={"graph_id": "notes"}, limit=1000)
    (copy,) = [t for t in after if t["thread_id"] not in before]
    if copied is not None:
        same(copied["thread_id"], copy["thread_id"])
    same(c.threads.get_state(copy["thread_id"])["values"], state["values"])
    same(c.runs.wait(copy["thread_id"], "notes", input=None)["log"], ["wrote past", "reviewed"])
    same(c.threads.get_state(made["thread_id"])["next"], ["review"])


def states_are_read_changed_and_gone_back_to(c):
    thread = c.threads.create()["thread_id"]
    empty = c.threads.get_state(thread)
    same((empty["values"], empty["next"], empty["checkpoint"]["checkpoint_id"]), ({}, [], None))
    c.runs.wait(thread, "notes", input={"topic": "tea", "ask": True})
    asked = c.threads.get_state(thread)
    same((asked["values"]["log"], asked["next"]), (["wrote tea"], ["review"]))
    same([i["value"] for i in asked["interrupts"]], [{"question": "good?"}])
    same([i["value"] for i in asked["tasks"][0]["interrupts"]], [{"question": "good?"}])
    same(c.threads.get_state(thread, select=["next"]), {"next": ["review"]})
    changed = c.threads.update_state(thread, {"topic": "coffee", "log": ["by hand"]}, as_node="write")
    now = c.threads.get_state(thread, subgraphs=True)
    same(now["values"], {"topic": "coffee", "ask": True, "log": ["wrote tea", "by hand"]})
    same(now["checkpoint"]["checkpoint_id"], changed["checkpoint"]["checkpoint_id"])
    old = c.threads.get_state(thread, checkpoint_id=asked["checkpoint"]["checkpoint_id"])
    same(old["values"]["topic"], "tea")
    same(c.threads.get_state(thread, checkpoint=asked["checkpoint"])["values"], old["values"])
    same(c.threads.get_state(thread, checkpoint=changed["checkpoint"])["values"], now["values"])
    forked = c.threads.update_state(
        thread, {"topic": "milk"}, as_node="write", checkpoint_id=asked["checkpoint"]["checkpoint_id"]
    )
    same(c.threads.get_state(thread)["values"]["topic"], "milk")
    history = c.threads.get_history(thread, limit=100)
    same(history[0]["checkpoint"]["checkpoint_id"], forked["checkpoint"]["checkpoint_id"])
    same([s["metadata"]["source"] for s in history], ["update", "update", "loop", "loop", "input"])
    # Says the same as `before`, in both ways of saying it.
    earlier = c.threads.get_history(thread, before=asked["checkpoint"]["checkpoint_id"], limit=1)
    same([s["values"].get("log") for s in earlier], [[]])
    same(c.threads.get_history(thread, before=asked["checkpoint"], limit=1), earlier)
    same(len(c.threads.get_history(thread, metadata={"source": "update"}, limit=100)), 2)
    same(list(c.threads.get_history(thread, limit=1, select=["created_at"])[0]), ["created_at"])
    raises(
        NotFoundError,
        lambda: c.threads.get_state(thread, checkpoint_id=NOBODY),
        says=NOBODY,
        code="checkpoint_not_found",
    )
    raises(NotFoundError, lambda: c.threads.get_state(NOBODY), says=NOBODY, code="thread_not_found")
    raises(
        UnprocessableEntityError,
        lambda: c.threads.update_state(thread, {"topic": "x"}, as_node="nobody"),
        says="nobody",
        code="invalid_update",
    )


def threads_are_pruned(c):
    ids = [c.threads.create()["thread_id"] for _ in range(2)]
    for id in ids:
        c.runs.wait(id, "notes", input={"topic": "old"})
    same(c.threads.prune([ids[0]], strategy="keep_latest"), {"pruned_count": 1})
    same(len(c.threads.get_history(ids[0], limit=100)), 1)
    same(c.threads.get_state(ids[0])["values"]["topic"], "old")
    same(c.threads.prune([*ids, NOBODY]), {"pruned_count": 2})
    raises(NotFoundError, lambda: c.threads.get(ids[1]), says=ids[1], code="thread_not_found")


def threads_are_followed(c):
    thread = c.threads.create()["thread_id"]
    c.runs.wait(thread, "notes", input={"topic": "one"})
    c.runs.wait(thread, "notes", input={"topic": "two"})
    done = []

    def second_is_done(part):
        if part.event == "run_done":
            done.append(part.data["status"])
        return len(done) == 2

    parts = c.threads.join_stream(thread, last_event_id="-", until=second_is_done)
    same(done, ["success", "success"])
    same([p.data["topic"] for p in parts if p.event == "values"], ["one"] * 4 + ["two"] * 4)
    ids = [int(p.id) for p in parts]
    assert ids == sorted(set(ids)), ids
    again = c.threads.join_stream(thread, last_event_id=parts[-2].id, until=lambda _: True)
    same([(p.event, p.id) for p in again], [("run_done", parts[-1].id)])
    lifecycle = c.threads.join_stream(
        thread, stream_mode=["lifecycle"], last_event_id="-", until=lambda p: p.id == parts[-1].id
    )
    same(events(lifecycle), ["metadata", "run_done"] * 2)


# ---------------------------------------------------------------------------------------------- runs

MODES = ["values", "updates", "messages", "messages-tuple", "events", "debug", "tasks", "checkpoints", "custom"]


def runs_stream_in_every_mode(c):
    thread = c.threads.create()["thread_id"]
    made = []
    hello = {"messages": [{"role": "user", "content": "hello"}]}
    parts = c.runs.stream(thread, "parrot", input=hello, stream_mode=MODES, on_run_created=made.append)
    run = c.runs.list(thread)[0]["run_id"]
    same(made, [{"run_id": run, "thread_id": thread}])
    same((parts[0].event, parts[0].data), ("metadata", {"run_id": run, "attempt": 1}))
    same(parts[-1].event, "end")
    by_name = {}
    for part in parts:
        by_name.setdefault(part.event, []).append(part.data)
    wanted = {"values", "updates", "messages", "messages/metadata", "messages/partial", "events", "debug", "tasks"}
    assert {*wanted, "checkpoints", "custom"} <= set(by_name), sorted(by_name)
    same([m["content"] for m in by_name["values"][-1]["messages"]], ["hello", "one two"])
    same(by_name["updates"][0]["speak"]["messages"]["content"], "one two")
    same("".join(chunk["content"] for chunk, _ in by_name["messages"]), "one two")
    same(by_name["messages/partial"][-1][0]["content"], "one two")
    same(by_name["custom"], [{"heard": 1}])
    same([t["name"] for t in by_name["tasks"]], ["speak", "speak"])
    same([d["type"] for d in by_name["debug"] if d["type"] != "checkpoint"], ["task", "task_result"])
    same([s["next"] for s in by_name["checkpoints"]], [["__start__"], ["speak"], []])
    names = [e["event"] for e in by_name["events"]]
    same((names[0], names[-1], "on_chat_model_stream" in names), ("on_chain_start", "on_chain_end", True))
    ids = [int(p.id) for p in parts]
    assert ids == sorted(ids), ids


def runs_stream_their_subgraphs(c):
    parts = c.runs.stream(None, "notes", input={"topic": "sub"}, stream_mode="updates", stream_subgraphs=True)
    names = [e.split(":")[0] for e in events(parts)]
    same(names, ["metadata", "updates", "updates", "updates|deepen", "updates|deepen", "updates", "end"])


def runs_stream_in_the_second_format(c):
    parts = c.runs.stream(None, "notes", input={"topic": "v2"}, stream_mode=["updates"], version="v2")
    same([list(p["data"]) for p in parts if p["type"] == "updates"], [["write"], ["review"], ["deepen"]])


def runs_wait_and_resume(c):
    thread = c.threads.create()["thread_id"]
    stopped = c.runs.wait(thread, "notes", input={"topic": "w", "ask": True}, metadata={"by": "py"}, durability="sync")
    same([i["value"] for i in stopped["__interrupt__"]], [{"question": "good?"}])
    values = c.runs.wait(thread, "notes", command={"resume": "yes"}, context={"k": 1}, config={"tags": ["t"]})
    same(values["log"], ["wrote w", "heard yes"])
    before = c.runs.wait(None, "notes", input={"topic": "b"}, interrupt_before=["review"])
    same(before["log"], ["wrote b"])
    after = c.runs.wait(None, "notes", input={"topic": "a"}, interrupt_after="*")
    same(after["log"], ["wrote a"])
    first = c.threads.get_history(thread, limit=100)[-1]["checkpoint"]["checkpoint_id"]
    again = c.runs.wait(thread, "notes", input=None, checkpoint_id=first, config={"configurable": {"x": 1}})
    same(again["log"], ["wrote w"])


def failed_runs_say_why(c):
    try:
        c.runs.wait(None, "notes", input={"topic": "trouble"})
        raise AssertionError("no error")
    except Exception as error:
        assert "that is trouble" in str(error), error
    quiet = c.runs.wait(None, "notes", input={"topic": "trouble"}, raise_error=False)
    same(quiet["__error__"], {"error": "RangeError", "message": "that is trouble"})
    parts = c.runs.stream(None, "notes", input={"topic": "trouble"})
    (error,) = [p.data for p in parts if p.event == "error"]
    same(error, {"error": "RangeError", "message": "that is trouble"})


def runs_are_created_listed_joined_and_deleted(c):
    thread = c.threads.create()["thread_id"]
    made = c.runs.create(thread, "notes", input={"topic": "made"}, metadata={"n": 1}, stream_resumable=True)
    same((made["thread_id"], made["metadata"]["n"], made["multitask_strategy"]), (thread, 1, "enqueue"))
    same(c.runs.join(thread, made["run_id"])["topic"], "made")
    got = c.runs.get(thread, made["run_id"])
    same((got["status"], got["kwargs"]["input"]), ("success", {"topic": "made"}))
    parts = c.runs.join_stream(thread, made["run_id"], last_event_id="-1")
    same(events(parts), ["metadata"] + ["values"] * 4 + ["end"])
    rest = c.runs.join_stream(thread, made["run_id"], last_event_id=parts[2].id, stream_mode=["values"])
    same([p.id for p in rest], [p.id for p in parts[3:]])
    second = c.runs.create(thread, "notes", input={"topic": "second"})
    c.runs.join(thread, second["run_id"])
    same([r["run_id"] for r in c.runs.list(thread)], [second["run_id"], made["run_id"]])
    same(c.runs.list(thread, limit=1, offset=1, select=["run_id"]), [{"run_id": made["run_id"]}])
    same(c.runs.list(thread, status="error"), [])
    c.runs.delete(thread, second["run_id"])
    raises(NotFoundError, lambda: c.runs.get(thread, second["run_id"]), says=second["run_id"], code="run_not_found")
    raises(NotFoundError, lambda: c.runs.join_stream(NOBODY, NOBODY), says=NOBODY, code="run_not_found")
    raises(NotFoundError, lambda: c.runs.create(NOBODY, "notes"), says=NOBODY, code="thread_not_found")
    fresh = str(uuid.uuid4())
    same(c.runs.wait(fresh, "notes", input={"topic": "new"}, if_not_exists="create")["topic"], "new")
    raises(
        UnprocessableEntityError,
        lambda: c.runs.create(thread, "notes", webhook="http://127.0.0.1/x"),
        says="body.webhook",
        code="validation_failed",
    )


def batches_start_many_runs(c):
    made = c.runs.create_batch(
        [{"assistant_id": "notes", "input": {"topic": t}, "on_completion": "keep"} for t in ("x", "y")]
    )
    same([c.runs.join(r["thread_id"], r["run_id"])["topic"] for r in made], ["x", "y"])


def runs_are_cancelled(c):
    thread = c.threads.create()["thread_id"]
    run = c.runs.create(thread, "endless", input={})
    raises(ConflictError, lambda: c.runs.delete(thread, run["run_id"]), says="cancel it first", code="run_active")
    raises(
        ConflictError,
        lambda: c.runs.create(thread, "endless", multitask_strategy="reject"),
        says="busy",
        code="thread_busy",
    )
    c.runs.cancel(thread, run["run_id"], wait=True)
    ended = c.runs.get(thread, run["run_id"])
    same((ended["status"], ended["cancel_reason"]), ("interrupted", "cancelled through the API"))
    raises(
        ConflictError, lambda: c.runs.cancel(thread, run["run_id"]), says="has ended", code="run_not_cancellable"
    )
    rolled = c.runs.create(thread, "endless", input={})
    c.runs.cancel(thread, rolled["run_id"], wait=True, action="rollback")
    raises(NotFoundError, lambda: c.runs.get(thread, rolled["run_id"]), says=rolled["run_id"], code="run_not_found")


def many_runs_are_cancelled(c):
    thread = c.threads.create()["thread_id"]
    runs = [c.runs.create(thread, "endless", input={})["run_id"] for _ in range(3)]
    raises(
        NotFoundError,
        lambda: c.runs.cancel_many(thread_id=thread, run_ids=[NOBODY]),
        says=NOBODY,
        code="run_not_found",
    )
    c.runs.cancel_many(thread_id=thread, run_ids=runs[1:])
    same([c.runs.get(thread, id)["status"] for id in runs[1:]], ["interrupted"] * 2)
    c.runs.cancel_many(status="running")
    c.runs.join(thread, runs[0])
    same(c.runs.get(thread, runs[0])["status"], "interrupted")


def a_reader_that_leaves_can_take_its_run_along(c):
    thread = c.threads.create()["thread_id"]
    c.runs.stream(thread, "endless", input={}, on_disconnect="cancel", until=lambda p: p.event == "values")
    (left,) = c.runs.list(thread)
    c.runs.join(thread, left["run_id"])
    same(c.runs.get(thread, left["run_id"])["status"], "interrupted")
    run = c.runs.create(thread, "endless", input={}, stream_resumable=True)["run_id"]
    c.runs.join_stream(thread, run, cancel_on_disconnect=True, last_event_id="-1", until=lambda p: p.event == "values")
    c.runs.join(thread, run)
    same(c.runs.get(thread, run)["status"], "interrupted")


# ---------------------------------------------------------------------------------------------- crons


def crons_are_created_changed_and_found(c):
    suite = uuid.uuid4().hex
    end = datetime(2999, 1, 1, tzinfo=timezone.utc)
    made = c.crons.create(
        "notes",
        schedule="0 9 * * 1-5",
        input={"notes": ["a"]},
        metadata={"suite": suite},
        end_time=end,
        timezone=ZoneInfo("Europe/Berlin"),
        on_run_completed="keep",
    )
    same((made["schedule"], made["timezone"], made["enabled"]), ("0 9 * * 1-5", "Europe/Berlin", True))
    same(datetime.fromisoformat(made["end_time"]), end)
    thread = c.threads.create()["thread_id"]
    on_thread = c.crons.create_for_thread(
        thread, "notes", schedule="@daily", metadata={"suite": suite}, multitask_strategy="reject"
    )
    same((on_thread["thread_id"], on_thread["payload"]), (thread, {"multitask_strategy": "reject"}))
    changed = c.crons.update(made["cron_id"], end_time=None, schedule="@hourly", input={"notes": ["b"]})
    same((changed["end_time"], changed["schedule"], changed["timezone"]), (None, "@hourly", "Europe/Berlin"))
    same(changed["payload"], {"input": {"notes": ["b"]}})
    same(c.crons.update(made["cron_id"], enabled=False)["next_run_date"], None)
    found = c.crons.search(metadata={"suite": suite}, sort_by="created_at", sort_order="asc", limit=5)
    same([cron["cron_id"] for cron in found], [made["cron_id"], on_thread["cron_id"]])
    same([cron["cron_id"] for cron in c.crons.search(thread_id=thread, enabled=True)], [on_thread["cron_id"]])
    same(list(c.crons.search(thread_id=thread, select=["cron_id"])[0]), ["cron_id"])
    same(c.crons.count(metadata={"suite": suite}), 2)
    same(c.crons.count(assistant_id="notes", thread_id=thread), 1)
    c.crons.delete(made["cron_id"])
    raises(NotFoundError, lambda: c.crons.delete(made["cron_id"]), says=made["cron_id"], code="cron_not_found")
    raises(
        UnprocessableEntityError,
        lambda: c.crons.create("notes", schedule="99 * * * *"),
        says="body.schedule: field 1, the minute",
        code="validation_failed",
    )


# ---------------------------------------------------------------------------------------------- store


def items_are_kept(c):
    space = uuid.uuid4().hex
    c.store.put_item([space, "a"], "one", {"n": 1, "tag": "x"})
    c.store.put_item([space, "a"], "two", {"n": 2, "tag": "x"}, ttl=60)
    c.store.put_item([space, "b"], "three", {"n": 3, "tag": "y"})
    item = c.store.get_item([space, "a"], "one")
    same((item["namespace"], item["key"], item["value"]), ([space, "a"], "one", {"n": 1, "tag": "x"}))
    same(c.store.get_item([space, "a"], "two", refresh_ttl=True)["value"]["n"], 2)
    found = c.store.search_items([space])["items"]
    same([i["key"] for i in found], ["three", "two", "one"])
    same([i["key"] for i in c.store.search_items([space], filter={"tag": "x"}, limit=1, offset=1)["items"]], ["one"])
    same([i["key"] for i in c.store.search_items([space], filter={"n": {"$gte": 2}})["items"]], ["three", "two"])
    same(c.store.list_namespaces(prefix=[space])["namespaces"], [[space, "a"], [space, "b"]])
    same(c.store.list_namespaces(prefix=[space], suffix=["b"], max_depth=2, limit=5)["namespaces"], [[space, "b"]])
    same(c.store.list_namespaces(prefix=[space], max_depth=1)["namespaces"], [[space]])
    c.store.delete_item([space, "a"], "one")
    same(c.store.get_item([space, "a"], "one"), None)
    raises(
        UnprocessableEntityError,
        lambda: c.store.put_item([], "k", {}),
        says="body.namespace",
        code="validation_failed",
    )


TESTS = [
    value
    for value in list(globals().values())
    if inspect.isfunction(value) and list(inspect.signature(value).parameters) == ["c"]
]


def methods(client):
    for resource in RESOURCES:
        for name, value in inspect.getmembers(getattr(client, resource), callable):
            if not name.startswith("_") and inspect.isroutine(value):
                yield f"{resource}.{name}"


def main(url):
    report = {"passed": [], "failed": {}, "uncalled": []}
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    clients = {
        "sync": Client(get_sync_client(url=url, api_key=None)),
        "async": Client(get_client(url=url, api_key=None), loop),
    }
    for flavour, client in clients.items():
        for test in TESTS:
            name = f"{flavour}: {test.__name__.replace('_', ' ')}"
            try:
                test(client)
                report["passed"].append(name)
            except BaseException:
                report["failed"][name] = traceback.format_exc(limit=-4)
        left = set(methods(client.client)) - client.called - ABSENT
        report["uncalled"] += [f"{flavour}: {name}" for name in sorted(left)]
    print(json.dumps(report))


main(sys.argv[1])
