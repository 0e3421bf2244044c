// Calls of Anthropic's library for JavaScript.
import Anthropic from "@anthropic-ai/sdk";
import { all, begin, main, MESSAGES, PARAMETERS } from "./harness.mjs";

const tools = [{ name: "get_weather", description: "Weather of a city", input_schema: PARAMETERS }];

main((target) => {
  const client = new Anthropic({ baseURL: target.url, apiKey: target.key, maxRetries: 0 });
  const common = { model: target.model, max_tokens: 2000, messages: MESSAGES };
  const create = (rest) => client.messages.create({ ...common, ...rest });
  const final = (rest) => client.messages.stream({ ...common, ...rest }).finalMessage();
  const answered = [
    ...MESSAGES,
    { role: "assistant", content: [{ type: "tool_use", id: "call_1", name: "get_weather", input: { city: "Oslo" } }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "call_1", content: "sunny" }] },
  ];
  const thinking = { type: "enabled", budget_tokens: 1024 };
  return {
    message: () => create({}),
    "message stream": () => final({}),
    "message events": () => all(create({ stream: true })),
    "message cut": () => create({ max_tokens: 3 }),
    "message cut stream": () => final({ max_tokens: 3 }),
    "message tools": () => create({ tools }),
    "message tools stream": () => final({ tools }),
    "message tool result": () => create({ tools, messages: answered }),
    "message thinking stream": () => final({ thinking }),
    "message cancelled": async () => begin(await create({ stream: true })),
    "error of a missing model": () => create({ model: target.missing }),
    "error of a missing model in a stream": () => all(create({ model: target.missing, stream: true })),
    "error of no messages": () => create({ messages: [] }),
  };
});
