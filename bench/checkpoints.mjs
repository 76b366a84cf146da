#!/usr/bin/env node
// What a long thread takes, and what a step's checkpoint costs: Heddle's saver beside the stock Postgres saver, on one Postgres.
//
//   node checkpoints.mjs --postgres postgres://…/bench [--turns 200] [--json out.json]      (empties the database)
//
// "bytes" are those of checkpoints, values and writes as stored, without indexes; "said" are the characters of all messages.
// "put" is one checkpoint of a thread of that many turns to which one message was added, until it is durable.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { AIMessage, HumanMessage } from "@langchain/core/messages";
import { END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { emptyCheckpoint, uuid6 } from "@langchain/langgraph-checkpoint";
import { PostgresSaver } from "@langchain/langgraph-checkpoint-postgres";
import pg from "pg";
import { v7 } from "uuid";
import * as store from "../dist/db/checkpoints.js";
import { openDatabase } from "../dist/db/open.js";
import { sql } from "../dist/db/sql.js";
import { createCodec } from "../dist/executor/codec.js";
import { createLangChainLoader } from "../dist/executor/langchain.js";
import { createSaver } from "../dist/executor/saver.js";
import { createStorage } from "../dist/graph/storage.js";
import { createHeddle } from "../dist/index.js";
import { builders } from "./graphs/graphs.mjs";
import { round, summary } from "./lib/stats.mjs";

const { values: args } = parseArgs({
  options: {
    postgres: { type: "string" },
    turns: { type: "string", default: "200" },
    json: { type: "string" },
  },
});
const turns = Number(args.turns);
const PUTS = 100;
const pool = new pg.Pool({ connectionString: args.postgres, max: 4 });
const reset = () => pool.query("drop schema if exists public cascade; create schema public");
/** The graph that is run, and what it is called: by itself, and as a node of another, which is given the list and returns it. */
const graphs = {
  echo: (options) => builders.echo.compile(options),
  "echo in a graph": (options) =>
    new StateGraph(MessagesAnnotation)
      .addNode("inner", builders.echo.compile())
      .addEdge(START, "inner")
      .addEdge("inner", END)
      .compile(options),
};
const text = (turn, size) => `turn ${turn} `.padEnd(size, "x");
const messages = (count) =>
  Array.from({ length: count }, (_, i) =>
    i % 2 ? new AIMessage({ id: `m${i}`, content: text(i, 500) }) : new HumanMessage({ id: `m${i}`, content: text(i, 500) }),
  );

/** Milliseconds of a put, for the saver that `saverAt` gives for a thread. */
async function timePuts(saver, thread_id) {
  let list = messages(turns * 2);
  let parent;
  let version = saver.getNextVersion(undefined);
  const put = async () => {
    const checkpoint = {
      ...emptyCheckpoint(),
      id: uuid6(0),
      channel_values: { messages: list },
      channel_versions: { messages: version },
    };
    const config = { configurable: { thread_id, checkpoint_ns: "", ...(parent && { checkpoint_id: parent }) } };
    const start = performance.now();
    await saver.put(config, checkpoint, { source: "loop", step: 1, parents: {} }, { messages: version });
    parent = checkpoint.id;
    return performance.now() - start;
  };
  await put();
  const times = [];
  for (let i = 0; i < PUTS; i++) {
    list = [...list, new AIMessage({ id: `n${i}`, content: text(i, 500) })];
    version = saver.getNextVersion(version);
    times.push(await put());
  }
  return summary(times).p50_ms;
}

async function stock(name, size) {
  await reset();
  const saver = new PostgresSaver(pool);
  await saver.setup();
  const graph = graphs[name]({ checkpointer: saver });
  const thread = { configurable: { thread_id: v7() } };
  let said = 0;
  for (let turn = 1; turn <= turns; turn++) {
    const { messages } = await graph.invoke({ messages: [{ role: "user", content: text(turn, size) }] }, thread);
    said += messages.slice(-2).reduce((sum, { content }) => sum + content.length, 0);
  }
  const { rows } = await pool.query(`select
    (select sum(octet_length(checkpoint::text) + octet_length(metadata::text)) from checkpoints)
    + (select sum(octet_length(blob)) from checkpoint_blobs) + (select sum(octet_length(blob)) from checkpoint_writes) as bytes`);
  return { said, bytes: Number(rows[0].bytes), put_p50_ms: await timePuts(saver, v7()) };
}

async function heddle(name, size) {
  await reset();
  const server = await createHeddle({
    graphs: { graph: graphs[name]() },
    database: { uri: args.postgres },
  });
  const ask = async (path, body) => {
    const method = body === undefined ? "GET" : "POST";
    const init = { method, headers: { "content-type": "application/json" }, ...(body && { body: JSON.stringify(body) }) };
    const response = await server.fetch(new Request(`http://localhost${path}`, init));
    if (!response.ok) throw new Error(await response.text());
    return response.json();
  };
  const { thread_id } = await ask("/threads", {});
  let said = 0;
  for (let turn = 1; turn <= turns; turn++) {
    const input = { messages: [{ role: "user", content: text(turn, size) }] };
    const { messages } = await ask(`/threads/${thread_id}/runs/wait`, { assistant_id: "graph", input });
    said += messages.slice(-2).reduce((sum, { content }) => sum + content.length, 0);
  }
  const { total_bytes: bytes } = await ask(`/threads/${thread_id}/storage`);
  await server.close();
  return { said, bytes, put_p50_ms: await heddlePuts() };
}

async function heddlePuts() {
  const db = await openDatabase({ uri: args.postgres, poolSize: 2 }, () => {});
  const langchain = await createLangChainLoader()();
  const thread_id = v7();
  await db.rows(sql`insert into threads (thread_id, metadata) values (${thread_id}, '{}')`);
  const { checkpointer } = createSaver({
    langchain,
    codec: createCodec(langchain),
    storage: createStorage({ db, flushed: async () => {} }),
    sink: {
      put: (put) => store.store(db, { puts: [put], writes: [], run_id: null }),
      writes: (writes) => store.store(db, { puts: [], writes: [writes], run_id: null }),
      settled: async () => {},
    },
  });
  const time = await timePuts(checkpointer, thread_id);
  await db.close();
  return time;
}

const rows = [];
for (const [graph, size] of [
  ["echo", 500],
  ["echo", 2_000],
  ["echo in a graph", 500],
]) {
  const theirs = await stock(graph, size);
  const ours = await heddle(graph, size);
  rows.push({
    graph,
    turns,
    said_per_turn: Math.round(ours.said / turns),
    stock_bytes: theirs.bytes,
    heddle_bytes: ours.bytes,
    stock_to_heddle: round(theirs.bytes / ours.bytes, 1),
    heddle_bytes_per_byte_said: round(ours.bytes / ours.said),
    stock_put_p50_ms: theirs.put_p50_ms,
    heddle_put_p50_ms: ours.put_p50_ms,
    put_ratio: round(ours.put_p50_ms / theirs.put_p50_ms),
  });
}
console.table(rows);
if (args.json) writeFileSync(args.json, `${JSON.stringify(rows, null, 2)}\n`);
await pool.end();
process.exit(0);
