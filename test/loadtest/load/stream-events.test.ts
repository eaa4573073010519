import { describe, expect, test } from "vitest";
import { collectEvents } from "../../../loadtest/load/stream-events.js";

const event = (text: string) => `data: {"text":"${text}"}\n\n`;

describe("the events of a stream", () => {
  test("are the same wherever their bytes are cut, characters included", () => {
    const bytes = Buffer.from(`${event("ä")}: ping\n\n${event("b")}data: [DONE]\n\n`);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const stream = collectEvents();
      stream.hear(bytes.subarray(0, cut));
      stream.hear(bytes.subarray(cut));
      expect(stream.events.map(({ data }) => data)).toEqual(['{"text":"ä"}', '{"text":"b"}', "[DONE]"]);
    }
  });

  test("have come when their last byte has", () => {
    const stream = collectEvents();
    stream.hear(Buffer.from(event("a") + event("b").slice(0, -1)));
    expect(stream.events).toHaveLength(1);
    const now = performance.now();
    stream.hear(Buffer.from("\n"));
    expect(stream.events[1]?.at).toBeGreaterThanOrEqual(now);
    expect(stream.events[0]?.at).toBeLessThanOrEqual(now);
  });
});
