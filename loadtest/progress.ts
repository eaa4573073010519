import cliProgress from "cli-progress";

/** How far a command is, on a terminal's last line; elsewhere nothing is shown. */
export interface Progress extends Disposable {
  /** @param doing what is being done now */
  advance(doing: string, by?: number): void;
}

export function showProgress(total: number, done = 0, stream: NodeJS.WriteStream = process.stderr): Progress {
  const options = {
    format: "{bar} {value}/{total} {eta_formatted} {doing}",
    // Nothing is known before the first step.
    formatTime: (...[seconds, settings, multiple]: Parameters<typeof cliProgress.Format.TimeFormat>) =>
      Number.isFinite(seconds) ? cliProgress.Format.TimeFormat(seconds, settings, multiple) : "-",
    stream,
    hideCursor: true,
    clearOnComplete: true,
  };
  const bar = stream.isTTY ? new cliProgress.SingleBar(options) : null;
  bar?.start(total, done, { doing: "" });
  return {
    advance: (doing, by = 1) => bar?.increment(by, { doing }),
    [Symbol.dispose]: () => bar?.stop(),
  };
}
