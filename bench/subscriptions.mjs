// How much memory and CPU idle subscriptions to threads cost: opens many of them against one process, lets them rest, and then
// runs a graph on some of the threads to see that they are still served.
//
//   node bench/subscriptions.mjs [--count 10000] [--transport sse|websocket] [--rest 20] [--json out.json]
//
// Starts its own Postgres, Redis and server. Needs an open-files limit (ulimit -n) above the count, for client and server alike.
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { WebSocket } from "ws";
import { freePort, startPostgres, startRedis } from "../scripts/servers.mjs";
import { ensureBuilt, ensureDependencies, root } from "../scripts/setup.mjs";

const { values: args } = parseArgs({
  options: {
    count: { type: "string", default: "10000" },
    transport: { type: "string", default: "sse" },
    rest: { type: "string", default: "20" },
    json: { type: "string" },
  },
});
const count = Number(args.count);
const channels = ["values", "checkpoints", "lifecycle", "input", "messages", "tools"];
const filter = { channels, namespaces: [[]], depth: 1 };
const agent = new Agent({ keepAlive: true, maxSockets: 32 });

ensureDependencies();
ensureBuilt();
const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
const port = await freePort();
const server = spawn(
  process.execPath,
  [join(root, "bin", "heddle.js"), "start", "--config", join(root, "bench", "graphs", "langgraph.json")].concat([
    ...["--host", "0.0.0.0", "--port", String(port)],
  ]),
  { env: { ...process.env, DATABASE_URI: postgres.uri, REDIS_URI: redis.uri, LOG_LEVEL: "error" }, stdio: ["ignore", "ignore", "inherit"] },
);
/** What each subscription got: the methods of its events. */
const got = [];
let heartbeats = 0;
let lost = 0;
let closing = false;
try {
  await until("the server is up", async () => (await call("GET", "/ok").catch(() => ({}))).ok);
  const threads = await inParallel(count, 32, async () => (await call("POST", "/threads", {})).thread_id);
  const before = await settle();
  const begun = Date.now();
  await inParallel(count, 64, (i) => (args.transport === "websocket" ? openSocket : openEvents)(threads[i], i));
  const opened = (Date.now() - begun) / 1000;
  const open = await settle();
  const cpu = cpuSeconds(server.pid);
  await sleep(Number(args.rest) * 1000);
  const idle = { cores: (cpuSeconds(server.pid) - cpu) / Number(args.rest), rss: rssMib(server.pid) };
  const chosen = Array.from({ length: 20 }, () => randomInt(count));
  const asked = Date.now();
  await Promise.all(chosen.map((i) => call("POST", `/threads/${threads[i]}/runs`, { assistant_id: "echo", input: { messages: [{ role: "user", content: "hi" }] } })));
  await until("the subscriptions on which something ran got it", () => chosen.every((i) => got[i].includes("lifecycle") && got[i].includes("values")));
  const result = {
    subscriptions: count,
    transport: args.transport,
    opened_per_s: Math.round(count / opened),
    rss_before_mib: before,
    rss_open_mib: open,
    rss_idle_mib: idle.rss,
    rss_peak_mib: peakMib(server.pid),
    kib_each: Math.round(((idle.rss - before) * 1024 * 10) / count) / 10,
    idle_cores: Math.round(idle.cores * 1000) / 1000,
    heartbeats,
    lost,
    first_events_ms: Date.now() - asked,
  };
  console.log(result);
  if (args.json) writeFileSync(args.json, `${JSON.stringify(result, null, 2)}\n`);
  process.exitCode = lost > 0 ? 1 : 0;
} finally {
  closing = true;
  server.kill("SIGKILL");
  await Promise.all([postgres.stop(), redis.stop()]);
}
process.exit();

/** Source addresses of the loopback range, so that no pair of addresses runs out of ports. */
function address(i) {
  return `127.0.0.${2 + (i % 50)}`;
}

function openEvents(thread, i) {
  got[i] = [];
  return new Promise((resolve, reject) => {
    const body = JSON.stringify(filter);
    const headers = { "content-type": "application/json", accept: "text/event-stream", "content-length": Buffer.byteLength(body) };
    const path = `/threads/${thread}/stream/events`;
    const asked = request({ host: "127.0.0.1", localAddress: address(i), port, path, method: "POST", headers, agent: false }, (response) => {
      if (response.statusCode !== 200) return reject(new Error(`status ${response.statusCode}`));
      response.setEncoding("utf8").on("data", (text) => {
        for (const line of text.split("\n")) {
          if (line.startsWith("event:")) got[i].push(line.slice(6).trim());
          else if (line.startsWith(":")) heartbeats += 1;
        }
      });
      response.on("close", lose);
      resolve();
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

function openSocket(thread, i) {
  got[i] = [];
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/threads/${thread}/stream/events`, { localAddress: address(i), perMessageDeflate: false });
    socket.on("open", () => socket.send(JSON.stringify({ id: 1, method: "subscription.subscribe", params: filter })));
    socket.on("message", (data) => {
      const message = JSON.parse(String(data));
      if (message.type === "success") resolve();
      else if (message.type === "event") got[i].push(message.method);
      else reject(new Error(message.message));
    });
    socket.on("ping", () => (heartbeats += 1));
    socket.on("error", reject);
    socket.on("close", lose);
  });
}

function lose() {
  if (!closing) lost += 1;
}

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, path, method, agent, headers: { "content-type": "application/json" } }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part) => (text += part));
      response.on("end", () => (response.statusCode < 300 ? resolve(JSON.parse(text)) : reject(new Error(`${path}: ${text}`))));
    });
    asked.on("error", reject);
    asked.end(body && JSON.stringify(body));
  });
}

async function inParallel(n, width, work) {
  const results = [];
  let next = 0;
  await Promise.all(Array.from({ length: width }, async () => {
    while (next < n) {
      const i = next++;
      results[i] = await work(i);
    }
  }));
  return results;
}

/** The resident memory once it has stopped to move: garbage is collected when a process rests. */
async function settle() {
  let last = rssMib(server.pid);
  for (let quiet = 0; quiet < 5; ) {
    await sleep(1000);
    const now = rssMib(server.pid);
    quiet = Math.abs(now - last) < 1 ? quiet + 1 : 0;
    last = now;
  }
  return last;
}

async function until(what, look) {
  for (const end = Date.now() + 60_000; !(await look()); await sleep(50)) {
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
  }
}

function status(pid, key) {
  return Math.round(Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 102.4) / 10;
}

function rssMib(pid) {
  return status(pid, "VmRSS");
}

function peakMib(pid) {
  return status(pid, "VmHWM");
}

function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
