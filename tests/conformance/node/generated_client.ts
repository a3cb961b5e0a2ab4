// What a program does with the types that openapi-typescript makes of /openapi.json: all of it is checked by tsc --strict.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type ChatBody = components["schemas"]["OpenAI.ChatBody"];

export const clientOf = (baseUrl: string) => createClient<paths>({ baseUrl });
type Client = ReturnType<typeof clientOf>;

export async function chat(client: Client, model: string, text: string): Promise<string> {
  const body: ChatBody = { model, messages: [{ role: "user", content: text }], temperature: 0 };
  const { data, error } = await client.POST("/v1/chat/completions", { body });
  if (error) throw new Error(JSON.stringify(error));
  return JSON.stringify(data);
}

export async function ollamaChat(client: Client, model: string, text: string): Promise<string> {
  const { data } = await client.POST("/api/chat", {
    body: { model, messages: [{ role: "user", content: text }], stream: false, think: false, options: { temperature: 0 } },
  });
  return JSON.stringify(data);
}

export async function message(client: Client, model: string, text: string): Promise<string> {
  const { data } = await client.POST("/v1/messages", {
    body: { model, max_tokens: 300, messages: [{ role: "user", content: text }], temperature: 0 },
  });
  return JSON.stringify(data);
}

export async function models(client: Client): Promise<string[]> {
  const { data } = await client.GET("/v1/models");
  return (data?.data ?? []).map((model) => model.id);
}

export async function statusOf(client: Client, model: string): Promise<number> {
  const { response } = await client.GET("/v1/models/{model_id}", { params: { path: { model_id: model } } });
  return response.status;
}
