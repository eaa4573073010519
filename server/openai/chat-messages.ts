import * as z from "zod";
import type { ChatMessage } from "../../models/chat/chat-template.js";

type Context = {
  issues: { push(issue: { code: "custom"; message: string; input: unknown; path: PropertyKey[] }): void };
};

/** Text, or text parts, which are joined by line breaks as vLLM does for templates that take strings; null for none. */
function readContent(content: unknown, ctx: Context): string | null {
  const refuse = (message: string, path: PropertyKey[]): never => {
    ctx.issues.push({ code: "custom", message, input: undefined, path });
    return z.NEVER;
  };
  if (content === null || content === undefined) return null;
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return refuse("expected a string or an array of text parts", []);
  const parts: readonly unknown[] = content;
  if (parts.length === 0) return refuse("expected at least one text part", []);
  const texts = parts.map((part, place) => {
    const { type, text } = Part.safeParse(part).data ?? {};
    if (typeof type !== "string") return refuse("expected a part with a type", [place]);
    if (type !== "text")
      return refuse(`this server reads text only, no ${JSON.stringify(type.slice(0, 40))}`, [place, "type"]);
    return typeof text === "string" ? text : refuse("expected a string", [place, "text"]);
  });
  return texts.join("\n");
}
const Part = z.object({ type: z.unknown().optional(), text: z.unknown().optional() });

/** What an assistant called; templates want the arguments as values, OpenAI sends them as JSON. */
const ToolCall = z.object({
  id: z.string().nullish(),
  type: z.literal("function").default("function"),
  function: z.object({
    name: z.string(),
    arguments: z.string().transform((text, ctx): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        ctx.issues.push({ code: "custom", message: "expected JSON", input: text });
        return z.NEVER;
      }
    }),
  }),
});

const Message = z
  .object({
    role: z.enum(["system", "developer", "user", "assistant", "tool"]),
    content: z.unknown().transform(readContent).prefault(null),
    name: z.string().nullish(),
    tool_call_id: z.string().nullish(),
    tool_calls: z.array(ToolCall).nullish(),
    function_call: z.null({ error: "replaced by tool_calls" }).optional(),
    audio: z.null({ error: "this server reads text only" }).optional(),
  })
  .check(({ value, issues }) => {
    const refuse = (field: string, message: string) =>
      issues.push({ code: "custom", message, input: value, path: [field] });
    if (value.tool_calls?.length && value.role !== "assistant") refuse("tool_calls", "only an assistant calls tools");
    if (value.content === null && !value.tool_calls?.length)
      refuse("content", "expected a string or an array of text parts, received nothing");
  })
  .transform(({ role, content, name, tool_call_id, tool_calls }): ChatMessage => {
    const others = { name, tool_call_id, tool_calls: tool_calls?.length ? tool_calls : null };
    return { role, content, ...Object.fromEntries(Object.entries(others).filter(([, value]) => value != null)) };
  });

/** `messages` of a chat request, as templates read them: left out is what was not said. */
export const ChatMessages = z.array(Message).min(1, { error: "expected at least one message" });
