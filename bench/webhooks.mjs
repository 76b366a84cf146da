#!/usr/bin/env node
// Times webhooks to a healthy receiver beside one that hangs: runs with webhooks to both are created at once, and the healthy one
// waits for each of its own; then all of its own are replayed at once, to time delivering without running. Ends with 1 where one of
// them is missing, or came once too often.
//
//   node bench/webhooks.mjs [--count 1000] [--hanging 200] [--embedded]     # a built Heddle on a Postgres of its own
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { freePort, startPostgres } from "../scripts/servers.mjs";
import { HttpClient } from "./lib/http.mjs";
import { now, round, sleep, summary } from "./lib/stats.mjs";

const { values: args } = parseArgs({
  options: {
    count: { type: "string", default: "1000" },
    hanging: { type: "string", default: "200" },
    embedded: { type: "boolean", default: false },
  },
});
const [count, hanging] = [Number(args.count), Number(args.hanging)];
const CLIENTS = 16;
const PATIENCE_MS = 120_000;

async function startHeddle() {
  const postgres = args.embedded ? undefined : await startPostgres({ fsync: true });
  const port = await freePort();
  const bin = fileURLToPath(new URL("../bin/heddle.js", import.meta.url));
  const config = fileURLToPath(new URL("./graphs/langgraph.json", import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), "heddle-webhooks-"));
  const command = args.embedded ? ["dev", "--no-reload", "--data-dir", folder] : ["start"];
  const child = spawn(process.execPath, [bin, ...command, "--config", config, "--port", `${port}`], {
    env: {
      ...process.env,
      LOG_LEVEL: "error",
      HEDDLE_WEBHOOK_ALLOW_PRIVATE: "true",
      HEDDLE_WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, 1).toString("base64")}`,
      ...(postgres && { DATABASE_URI: postgres.uri }),
    },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const stop = async () => {
    child.kill("SIGTERM");
    // What still hangs is given back.
    setTimeout(() => child.kill("SIGTERM"), 500);
    await ended;
    await postgres?.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  return { url: `http://127.0.0.1:${port}`, stop };
}

/** Listens, and calls `hear` with each body; answers only where `answers`. */
async function receive(answers, hear) {
  const server = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      if (answers) response.writeHead(204).end();
      hear(JSON.parse(Buffer.concat(chunks).toString()), request.headers["webhook-id"]);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, stop: () => server.close() && server.closeAllConnections() };
}

const arrivals = new Map();
const after = [];
let held = 0;
const healthy = await receive(true, (run, id) => {
  arrivals.set(id, (arrivals.get(id) ?? 0) + 1);
  after.push(Date.now() - Date.parse(run.run_ended_at));
});
const dead = await receive(false, () => held++);
const server = await startHeddle();
const client = new HttpClient(server.url);
let failed = true;
try {
  while (!(await client.json("GET", "/ok").catch(() => undefined))) await sleep(50);
  const input = { messages: [{ role: "user", content: "hi" }] };
  await client.json("POST", "/runs/wait", { assistant_id: "echo", input });

  // The hanging receiver's are spread over the others.
  const total = count + hanging;
  const isDead = (i) => Math.floor((i * hanging) / total) !== Math.floor(((i + 1) * hanging) / total);
  let next = 0;
  const began = now();
  const create = async () => {
    for (let i = next++; i < total; i = next++)
      await client.json("POST", "/runs", { assistant_id: "echo", input, webhook: isDead(i) ? dead.url : healthy.url });
  };
  await Promise.all(Array.from({ length: CLIENTS }, create));
  const created = now();
  while (arrivals.size < count && now() - began < PATIENCE_MS) await sleep(5);
  const done = now();
  await sleep(500);
  const twice = [...arrivals.values()].filter((times) => times > 1).length;
  const delivered = arrivals.size;
  const lags = summary(after, [50, 99, 100]);

  const ids = [...arrivals.keys()];
  arrivals.clear();
  next = 0;
  const again = now();
  const replay = async () => {
    for (let i = next++; i < ids.length; i = next++) await client.json("POST", `/webhooks/${ids[i]}/replay`);
  };
  await Promise.all(Array.from({ length: CLIENTS }, replay));
  while (arrivals.size < ids.length && now() - again < PATIENCE_MS) await sleep(5);
  const replayed = now();
  console.log(
    JSON.stringify({
      where: args.embedded ? "embedded" : "postgres",
      webhooks: count,
      delivered,
      twice,
      beside_hanging: hanging,
      held_open: held,
      runs_created_s: round((created - began) / 1_000),
      all_delivered_s: round((done - began) / 1_000),
      after_its_run: lags,
      all_replayed_s: round((replayed - again) / 1_000),
    }),
  );
  failed = delivered < count || arrivals.size < count || twice > 0;
} finally {
  client.agent.destroy();
  healthy.stop();
  dead.stop();
  await server.stop();
}
process.exitCode = failed ? 1 : 0;
