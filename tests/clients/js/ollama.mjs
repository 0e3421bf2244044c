// Calls of Ollama's library for JavaScript.
import { Ollama } from "ollama";
import { all, begin, FUNCTION, main, MESSAGES, PROMPT, SCHEMA, TOOL } from "./harness.mjs";

main((target) => {
  const client = new Ollama({ host: target.url, headers: { Authorization: `Bearer ${target.key}` } });
  const { model, missing } = target;
  const chat = (rest) => client.chat({ model, messages: MESSAGES, think: false, ...rest });
  const generate = (rest) => client.generate({ model, prompt: PROMPT, think: false, ...rest });
  const limit = { num_predict: 3 };
  const answered = [
    ...MESSAGES,
    { role: "assistant", content: "", tool_calls: [{ function: { name: "get_weather", arguments: { city: "Oslo" } } }] },
    { role: "tool", content: "sunny", tool_name: FUNCTION.name },
  ];
  const cancelled = async () => {
    const stream = await chat({ stream: true });
    const chunks = await begin(stream);
    stream.abort();
    return chunks;
  };
  return {
    list: () => client.list(),
    version: () => client.version(),
    load: () => client.generate({ model, prompt: "" }),
    ps: () => client.ps(),
    show: () => client.show({ model }),
    embed: () => client.embed({ model, input: [PROMPT, "Hello."] }),
    embeddings: () => client.embeddings({ model, prompt: PROMPT }),
    generate: () => generate({}),
    "generate stream": () => all(generate({ stream: true })),
    "generate cut": () => generate({ options: limit }),
    "generate format": () => generate({ format: SCHEMA, options: { temperature: 0 } }),
    chat: () => chat({}),
    "chat stream": () => all(chat({ stream: true })),
    "chat cut stream": () => all(chat({ stream: true, options: limit })),
    "chat tools": () => chat({ tools: [TOOL] }),
    "chat tools stream": () => all(chat({ tools: [TOOL], stream: true })),
    "chat tool result": () => chat({ tools: [TOOL], messages: answered }),
    "chat thinking": () => chat({ think: true }),
    "chat cancelled": cancelled,
    copy: () => client.copy({ source: model, destination: "copied" }),
    delete: () => client.delete({ model: "copied" }),
    create: () => client.create({ model: "created", from: model, system: "Be brief." }),
    "create stream": () => all(client.create({ model: "created", from: model, system: "Be brief.", stream: true })),
    "delete created": () => client.delete({ model: "created" }),
    "error of a pull": () => client.pull({ model: "127.0.0.1:9/none/none", insecure: true }),
    "error of a pull stream": () => all(client.pull({ model: "127.0.0.1:9/none/none", insecure: true, stream: true })),
    "error of a missing model": () => client.chat({ model: missing, messages: MESSAGES }),
    "error of a missing model in a stream": () => all(client.chat({ model: missing, messages: MESSAGES, stream: true })),
    "error of show": () => client.show({ model: missing }),
    "error of embed": () => client.embed({ model: missing, input: PROMPT }),
  };
});
