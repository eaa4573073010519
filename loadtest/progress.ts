import { SingleBar } from "cli-progress";

/** How far a command is, on a terminal's last line; elsewhere nothing is shown. */
export interface Progress extends Disposable {
  /** @param doing what is being done now */
  advance(doing: string, by?: number): void;
}

export function showProgress(total: number, done = 0, stream: NodeJS.WriteStream = process.stderr): Progress {
  const format = "{bar} {value}/{total} {eta_formatted} {doing}";
  const bar = stream.isTTY ? new SingleBar({ format, stream, hideCursor: true, clearOnComplete: true }) : null;
  bar?.start(total, done, { doing: "" });
  return {
    advance: (doing, by = 1) => bar?.increment(by, { doing }),
    [Symbol.dispose]: () => bar?.stop(),
  };
}
