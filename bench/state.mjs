#!/usr/bin/env node
// Times reading the state of one thread: GET state and history, whole and selected, over the API of any server.
//
//   node bench/state.mjs [--messages 400] [--reads 100] [--embedded]     # a built Heddle on a Postgres of its own
//   node bench/state.mjs --url http://127.0.0.1:2024                     # a server that serves bench/graphs
import { spawn } from "node:child_process";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { freePort, startPostgres } from "../scripts/servers.mjs";
import { HttpClient } from "./lib/http.mjs";
import { now, round, sleep, summary } from "./lib/stats.mjs";

const { values: args } = parseArgs({
  options: {
    url: { type: "string" },
    messages: { type: "string", default: "400" },
    reads: { type: "string", default: "100" },
    embedded: { type: "boolean", default: false },
  },
});
const turns = Number(args.messages) / 2;
const said = "What people say to each other is some two hundred characters long, often enough. ".repeat(3);

async function start() {
  const postgres = args.embedded ? undefined : await startPostgres({ fsync: true });
  const port = await freePort();
  const bin = fileURLToPath(new URL("../bin/heddle.js", import.meta.url));
  const config = fileURLToPath(new URL("./graphs/langgraph.json", import.meta.url));
  const command = args.embedded ? ["dev", "--no-reload"] : ["start"];
  const child = spawn(process.execPath, [bin, ...command, "--config", config, "--port", `${port}`], {
    env: { ...process.env, LOG_LEVEL: "error", ...(postgres && { DATABASE_URI: postgres.uri }) },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
    await postgres?.stop();
  };
  return { url: `http://127.0.0.1:${port}`, stop };
}

async function ready(client) {
  for (const end = now() + 30_000; now() < end; await sleep(100)) {
    try {
      return await client.json("GET", "/ok");
    } catch {
      // Not yet.
    }
  }
  throw new Error("the server does not answer");
}

async function measure(client) {
  await ready(client);
  const { thread_id } = await client.json("POST", "/threads", {});
  for (let turn = 0; turn < turns; turn++) {
    const input = { messages: [{ type: "human", content: `${turn} ${said}` }] };
    await client.json("POST", `/threads/${thread_id}/runs/wait`, { assistant_id: "echo", input });
  }
  const thread = `/threads/${thread_id}`;
  const { values } = await client.json("GET", `${thread}/state`);
  if (values.messages.length !== turns * 2) throw new Error(`wrong answer: ${values.messages.length} messages`);
  const operations = {
    "GET state": ["GET", `${thread}/state`],
    "GET state, select=next,checkpoint": ["GET", `${thread}/state?select=next&select=checkpoint`],
    "history of 10": ["POST", `${thread}/history`, { limit: 10 }],
    "history of 10, select=next,metadata,checkpoint": [
      "POST",
      `${thread}/history`,
      { limit: 10, select: ["next", "metadata", "checkpoint"] },
    ],
    "history of 100, select=checkpoint": ["POST", `${thread}/history`, { limit: 100, select: ["checkpoint"] }],
    "GET thread": ["GET", thread],
    "GET storage": ["GET", `${thread}/storage`],
  };
  const results = {};
  for (const [name, operation] of Object.entries(operations)) {
    const times = [];
    for (let i = 0; i < Number(args.reads) + 20; i++) {
      const start = now();
      const res = await client.open(...operation);
      let bytes = 0;
      for await (const chunk of res) bytes += chunk.length;
      if (i >= 20) times.push(now() - start);
      if (res.statusCode !== 200) throw new Error(`${name}: HTTP ${res.statusCode}`);
      results[name] = { bytes };
    }
    Object.assign(results[name], { least_ms: round(Math.min(...times)) }, summary(times));
  }
  return results;
}

const server = args.url ? { url: args.url, stop: async () => {} } : await start();
const client = new HttpClient(server.url);
try {
  console.table(await measure(client));
} finally {
  client.close();
  await server.stop();
}
