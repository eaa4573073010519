import { WriteStream } from "node:tty";
import { expect, test } from "vitest";
import { showProgress } from "../../loadtest/progress.js";

/** What is written to a terminal, or to a pipe. */
function screen(isTTY: boolean): { readonly stream: NodeJS.WriteStream; readonly text: () => string } {
  let text = "";
  const stream = Object.assign(Object.create(WriteStream.prototype), {
    isTTY,
    columns: 80,
    write(written: string) {
      text += written;
      return true;
    },
  });
  return { stream, text: () => text };
}

test("progress is shown on a terminal: how much is done, how long it takes, what is being done", async () => {
  const { stream, text } = screen(true);
  const progress = showProgress(4, 1, stream);
  progress.advance("short", 0);
  await expect.poll(text).toContain("1/4 - short");
  progress.advance("long", 2);
  await expect.poll(text).toMatch(/3\/4 \d+s long/);
  progress[Symbol.dispose]();
  expect(text()).toContain("\u001b[?25h"); // the cursor is back
});

test("and elsewhere nothing is", () => {
  const { stream, text } = screen(false);
  using progress = showProgress(2, 0, stream);
  progress.advance("short");
  expect(text()).toBe("");
});
