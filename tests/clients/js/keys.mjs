// Ways of giving an API key to the libraries of Ollama, OpenAI and Anthropic for JavaScript.
import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI, { AzureOpenAI } from "openai";
import { main, MESSAGES } from "./harness.mjs";

main(({ url, key, model }) => {
  const chat = (client) => client.chat({ model, messages: MESSAGES });
  const complete = (client) => client.chat.completions.create({ model, messages: MESSAGES });
  const message = (client) => client.messages.create({ model, max_tokens: 9, messages: MESSAGES });
  const fromEnvironment = () => {
    process.env.OLLAMA_API_KEY = key;
    return chat(new Ollama({ host: url })).finally(() => delete process.env.OLLAMA_API_KEY);
  };
  const azure = { endpoint: url, apiKey: key, apiVersion: "2024-06-01", maxRetries: 0 };
  return {
    "ollama headers": () => chat(new Ollama({ host: url, headers: { Authorization: `Bearer ${key}` } })),
    "ollama OLLAMA_API_KEY": fromEnvironment,
    "ollama user and password in the URL": () => chat(new Ollama({ host: url.replace("://", `://user:${key}@`) })),
    "openai apiKey": () => complete(new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 })),
    "openai for Azure": () => complete(new AzureOpenAI(azure)),
    "anthropic apiKey": () => message(new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 })),
    "anthropic authToken": () => message(new Anthropic({ baseURL: url, authToken: key, maxRetries: 0 })),
  };
});
