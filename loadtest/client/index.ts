/**
 * Client of the feature trace of a lambdatap server:
 *
 * ```ts
 * const socket = await connectTraces("http://127.0.0.1:8080");
 * for await (const frame of socket.generate({ prompt: "Once upon a time", max_tokens: 50 })) {
 *   if (frame.type === "token") console.log(frame.text, frame.saes[0]?.idx);
 * }
 * await socket.close();
 * ```
 */
export type { EndFrame, StartFrame, Usage } from "./messages.js";
export { TraceClosed, TraceError } from "./trace-error.js";
export type { PromptFrame, Reading, Subprotocol, TokenFrame, TraceFrame } from "./trace-frame.js";
export { type ConnectOptions, connectTraces, type TraceRequest, type TraceSocket } from "./trace-socket.js";
