// Calls of OpenAI's library for JavaScript.
import OpenAI from "openai";
import { all, begin, FUNCTION, main, MESSAGES, PROMPT, SCHEMA, TOOL } from "./harness.mjs";

main((target) => {
  const client = new OpenAI({ baseURL: `${target.url}/v1`, apiKey: target.key, maxRetries: 0 });
  const { model, missing } = target;
  const chat = (rest) => client.chat.completions.create({ model, messages: MESSAGES, reasoning_effort: "none", ...rest });
  const respond = (rest) => client.responses.create({ model, input: PROMPT, ...rest });
  const usage = { stream: true, stream_options: { include_usage: true } };
  const call = { id: "call_1", type: "function", function: { name: "get_weather", arguments: '{"city":"Oslo"}' } };
  const answered = [
    ...MESSAGES,
    { role: "assistant", content: "", tool_calls: [call] },
    { role: "tool", tool_call_id: "call_1", content: "sunny" },
  ];
  const format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema: SCHEMA } };
  return {
    models: async () => (await client.models.list()).data,
    model: () => client.models.retrieve(model),
    embeddings: () => client.embeddings.create({ model, input: [PROMPT, "Hello."] }),
    completion: () => client.completions.create({ model, prompt: PROMPT }),
    "completion stream": () => all(client.completions.create({ model, prompt: PROMPT, ...usage })),
    chat: () => chat({}),
    "chat stream": () => all(chat({ stream: true })),
    "chat stream with usage": () => all(chat(usage)),
    "chat cut": () => chat({ max_tokens: 3 }),
    "chat tools": () => chat({ tools: [TOOL] }),
    "chat tools stream": () => all(chat({ tools: [TOOL], ...usage })),
    "chat tool result": () => chat({ tools: [TOOL], messages: answered }),
    "chat helper": () => client.chat.completions.stream({ model, messages: MESSAGES, reasoning_effort: "none" }).finalChatCompletion(),
    "chat parse": () => client.chat.completions.parse({ model, messages: MESSAGES, response_format: format, reasoning_effort: "none", temperature: 0 }),
    "chat cancelled": async () => begin(await chat({ stream: true })),
    response: () => respond({}),
    "response stream": () => all(respond({ stream: true })),
    "response reasoning stream": () => all(respond({ stream: true, reasoning: { effort: "low" } })),
    "response tools stream": () => all(respond({ tools: [{ type: "function", ...FUNCTION }], stream: true })),
    "response helper": () => client.responses.stream({ model, input: PROMPT }).finalResponse(),
    "error of a missing model": () => client.chat.completions.create({ model: missing, messages: MESSAGES }),
    "error of a missing model in a stream": () => all(client.chat.completions.create({ model: missing, messages: MESSAGES, stream: true })),
    "error of no messages": () => chat({ messages: [] }),
    "error of responses": () => client.responses.create({ model: missing, input: PROMPT }),
  };
});
