// What every program with a client library shares: see ../programs/harness.py.
import { readFileSync, writeFileSync } from "node:fs";

export const READ_BEFORE_CANCEL = 2;
export const PROMPT = "What is the capital?";
export const MESSAGES = [{ role: "user", content: PROMPT }];
export const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const FUNCTION = { name: "get_weather", description: "Weather of a city", parameters: PARAMETERS };
export const TOOL = { type: "function", function: FUNCTION };
export const SCHEMA = { type: "object", properties: { sure: { type: "boolean" } }, required: ["sure"], additionalProperties: false };

export async function main(calls) {
  const results = {};
  for (const target of JSON.parse(readFileSync(0, "utf8"))) {
    results[target.name] = {};
    for (const [name, call] of Object.entries(calls(target))) results[target.name][name] = await outcome(call);
  }
  writeFileSync(1, JSON.stringify(results));
}

async function outcome(call) {
  try {
    return (await call()) ?? null;
  } catch (error) {
    return { raised: error.constructor.name, status: error.status ?? error.status_code ?? null, message: String(error.message) };
  }
}

export async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

export async function begin(stream) {
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    if (chunks.length === READ_BEFORE_CANCEL) break;
  }
  return chunks;
}
