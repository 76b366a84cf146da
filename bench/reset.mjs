#!/usr/bin/env node
// Empties a database between two servers of a comparison: node reset.mjs postgres://…/bench
import pg from "pg";

const client = new pg.Client({ connectionString: process.argv[2] });
await client.connect();
await client.query("drop schema if exists public cascade; create schema public");
await client.end();
