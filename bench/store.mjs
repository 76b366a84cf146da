#!/usr/bin/env node
// Measures Heddle's store through its HTTP API: put and get, search by filter, `heddle reindex-store`, search by likeness.
// Linux; `node bench/store.mjs --help`. A database of its own is made on the server that is given, and dropped.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { freePort, startPostgres } from "../scripts/servers.mjs";
import { ensureBuilt, root } from "../scripts/setup.mjs";
import { HttpClient } from "./lib/http.mjs";
import { closedLoop, forEach } from "./lib/load.mjs";
import { round } from "./lib/stats.mjs";

const { values: args } = parseArgs({
  options: {
    postgres: { type: "string" },
    items: { type: "string", default: "100000" },
    clients: { type: "string", default: "8" },
    seconds: { type: "string", default: "4" },
    dims: { type: "string", default: "384" },
    json: { type: "string" },
    help: { type: "boolean", short: "h" },
  },
});
if (args.help) {
  console.log(`node bench/store.mjs [--postgres URI] [--items 100000] [--clients 8] [--seconds 4] [--dims 384] [--json FILE]

Without --postgres a private server is started, durable as in production. Likeness needs pgvector there; without it that
part is left out. Give it the machine for itself.`);
  process.exit(0);
}
const items = Number(args.items);
const clients = Number(args.clients);
const seconds = Number(args.seconds);
const dims = Number(args.dims);
const USERS = Math.max(1, Math.round(items / 100));
const TOPICS = 500;

ensureBuilt();
const pg = createRequire(import.meta.url)("pg");
const folder = mkdtempSync(join(os.tmpdir(), "heddle-bench-store-"));
const own = args.postgres === undefined ? await startPostgres({ fsync: true }) : undefined;
const server = args.postgres ?? own.uri;
const name = `heddle_bench_store_${process.pid}`;
const results = { machine: `${os.cpus().length} x ${os.cpus()[0]?.model}`, load: os.loadavg()[0], items, dims };
let running;

try {
  await asAdmin(`create database ${name}`);
  writeFileSync(join(folder, "package.json"), `{"type": "module"}`);
  writeFileSync(join(folder, "embed.mjs"), embedSource());
  const graphs = { echo: `${join(root, "bench", "graphs", "graphs.mjs")}:echo` };
  const plain = { graphs, env: {} };
  await serve(plain);
  await putsAndGets("plain");
  const load = await forEach(Array.from({ length: items }, (_, i) => i), clients, (i) => put(i));
  results.load_plain = { items_per_s: round(items / load.wall_s), ...load.errors.report() };
  await analyze();
  await filters();
  await stop();
  if (await hasVectors()) {
    const config = { ...plain, store: { index: { dims, embed: "./embed.mjs:embed", fields: ["text"] } } };
    const started = performance.now();
    reindex(config);
    results.reindex = { items_per_s: round(items / ((performance.now() - started) / 1000)) };
    await analyze();
    await serve(config);
    await likeness();
    await putsAndGets("indexed");
  } else {
    results.likeness = "left out: the server has no pgvector";
  }
  console.log(JSON.stringify(results, null, 2));
  if (args.json) writeFileSync(args.json, `${JSON.stringify(results, null, 2)}\n`);
} finally {
  await stop();
  await asAdmin(`drop database if exists ${name} with (force)`).catch(() => {});
  await own?.stop();
  rmSync(folder, { recursive: true, force: true });
}

// ---------------------------------------------------------------------------------------------- what is measured

async function putsAndGets(label) {
  const at = (worker, n) => ({ namespace: ["bench", `${label}-${worker}`], key: `k${n % 500}` });
  const value = (n) => ({ text: textOf(n), n, note: "x".repeat(200) });
  await loop(1, (worker, n) => running.http.json("PUT", "/store/items", { ...at(worker, n), value: value(n) }));
  results[`put_${label}`] = await loop(clients, (worker, n) =>
    running.http.json("PUT", "/store/items", { ...at(worker, n), value: value(n) }),
  );
  results[`get_${label}`] = await loop(clients, async (worker, n) => {
    const { namespace, key } = at(worker, n % 50);
    await running.http.json("GET", `/store/items?namespace=${namespace.join(".")}&key=${key}`);
  });
}

async function filters() {
  const search = (body) => running.http.json("POST", "/store/items/search", { limit: 10, ...body });
  const checked = async (body, least) => {
    const found = (await search(body)).items.length;
    if (found < least) throw new Error(`found ${found} items, expected ${least}`);
  };
  const each = async (label, make) => {
    results[`filter_${label}`] = await loop(1, make);
    results[`filter_${label}_${clients}`] = await loop(clients, make);
  };
  await each("equal", (_, n) => checked({ namespace_prefix: ["all"], filter: { topic: n % TOPICS } }, 10));
  await each("range", (_, n) => checked({ namespace_prefix: ["all"], filter: { n: { $gte: items - 1000 - (n % 100) } } }, 10));
  await each("namespace", (_, n) => checked({ namespace_prefix: ["all", `user${n % USERS}`] }, 10));
}

async function likeness() {
  const ask = async (body) => {
    const found = (await running.http.json("POST", "/store/items/search", { limit: 10, ...body })).items;
    if (found.length < 10) throw new Error(`found ${found.length} items, expected 10`);
    return found;
  };
  const each = async (label, make) => {
    results[`likeness_${label}`] = await loop(1, make);
    results[`likeness_${label}_${clients}`] = await loop(clients, make);
  };
  await each("all", (_, n) => ask({ namespace_prefix: [], query: textOf(n * 7919) }));
  await each("prefix_of_all", (_, n) => ask({ namespace_prefix: ["all"], query: textOf(n * 7919) }));
  await each("one_user", (_, n) => ask({ namespace_prefix: ["all", `user${n % USERS}`], query: textOf(n * 7919) }));
  await each("filter", (_, n) => ask({ namespace_prefix: [], query: textOf(n * 7919), filter: { topic: n % TOPICS } }));
  // Of the ten nearest, how many the approximate index finds: exact ones are asked of the database.
  const client = new pg.Client({ connectionString: uri() });
  await client.connect();
  await client.query("set enable_indexscan = off");
  const { embed } = await import(join(folder, "embed.mjs"));
  let hits = 0;
  for (let n = 0; n < 20; n++) {
    const query = textOf(n * 104_729);
    const [vector] = await embed([query]);
    const exact = await client.query(
      "select key from store_vectors join store_items using (item_id) order by embedding <=> $1::vector limit 10",
      [`[${vector.join(",")}]`],
    );
    const found = new Set((await ask({ namespace_prefix: [], query })).map(({ key }) => key));
    hits += exact.rows.filter(({ key }) => found.has(key)).length;
  }
  await client.end();
  results.likeness_recall_of_10 = round(hits / 200);
}

async function loop(concurrency, op) {
  await closedLoop({ concurrency, seconds: Math.min(1, seconds), op });
  return closedLoop({ concurrency, seconds, op });
}

// ---------------------------------------------------------------------------------------------- what is stored

function put(i) {
  const value = { text: textOf(i), topic: i % TOPICS, n: i, note: "x".repeat(200) };
  return running.http.json("PUT", "/store/items", { namespace: ["all", `user${i % USERS}`], key: `item${i}`, value });
}

function textOf(i) {
  return `topic ${i % TOPICS} note ${i}`;
}

/** Vectors gathered around their topics, as those of real texts are; the same text always has the same. */
function embedSource() {
  return `
function random(seed) {
  let s = seed >>> 0
  return () => { s = (s + 0x6d2b79f5) >>> 0; let t = Math.imul(s ^ (s >>> 15), 1 | s); t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t; return ((t ^ (t >>> 14)) >>> 0) / 4294967296 - 0.5 }
}
export async function embed(texts) {
  return texts.map((text) => {
    const [, topic = 0, note = 0] = /topic (\\d+) note (\\d+)/.exec(text)?.map(Number) ?? []
    const [base, own] = [random(topic + 1), random(note + 1_000_003)]
    return Array.from({ length: ${dims} }, () => base() + 0.7 * own())
  })
}
`;
}

// ---------------------------------------------------------------------------------------------- servers

function uri() {
  const address = new URL(server);
  address.pathname = `/${name}`;
  return address.href;
}

function environment() {
  return { PATH: process.env.PATH, HOME: process.env.HOME, DATABASE_URI: uri(), LOG_LEVEL: "warn" };
}

async function serve(config) {
  const port = await freePort();
  const file = join(folder, "langgraph.json");
  writeFileSync(file, JSON.stringify(config));
  const command = [join(root, "bin", "heddle.js"), "start", "--config", file, "--host", "127.0.0.1", "--port", `${port}`];
  const child = spawn(process.execPath, command, { env: environment(), stdio: ["ignore", "inherit", "inherit"] });
  const http = new HttpClient(`http://127.0.0.1:${port}`);
  running = { child, http };
  for (let left = 300; ; left--) {
    if (child.exitCode !== null || left === 0) throw new Error("the server did not start");
    if (await http.json("GET", "/ok").catch(() => undefined)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function stop() {
  if (!running) return;
  const { child } = running;
  running = undefined;
  child.kill("SIGTERM");
  if (child.exitCode === null) await new Promise((resolve) => child.once("exit", resolve));
}

function reindex(config) {
  const file = join(folder, "langgraph.json");
  writeFileSync(file, JSON.stringify(config));
  const done = spawnSync(process.execPath, [join(root, "bin", "heddle.js"), "reindex-store", "--config", file], {
    env: environment(),
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (done.status !== 0) throw new Error("heddle reindex-store failed");
}

async function query(uri, text) {
  const client = new pg.Client({ connectionString: uri });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

function asAdmin(text) {
  return query(server, text);
}

/** What autovacuum does within a minute of such a load. */
function analyze() {
  return query(uri(), "vacuum analyze store_items");
}

async function hasVectors() {
  return (await query(uri(), "select 1 from pg_available_extensions where name = 'vector'")).length > 0;
}
