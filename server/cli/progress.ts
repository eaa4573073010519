import { Presets, SingleBar } from "cli-progress";

/** What a long job says of itself. */
export interface Progress {
  readonly stage: string;
  readonly done: number;
  readonly total: number;
}

/** A bar on a terminal; elsewhere a line per stage and per tenth of it. */
export function createProgress(stream: NodeJS.WriteStream): { show(progress: Progress): void; stop(): void } {
  if (!stream.isTTY) {
    let last = "";
    return {
      show({ stage, done, total }) {
        const line = `${stage} ${tenths(done, total) * 10} %\n`;
        if (line !== last) stream.write(line);
        last = line;
      },
      stop: () => {},
    };
  }
  const bar = new SingleBar({ format: "{stage} [{bar}] {percentage} %", stream, hideCursor: true }, Presets.rect);
  return {
    show({ stage, done, total }) {
      if (!bar.isActive) bar.start(total, done, { stage });
      bar.setTotal(total);
      bar.update(done, { stage });
    },
    stop: () => bar.stop(),
  };
}

function tenths(done: number, total: number): number {
  return total > 0 ? Math.floor((10 * done) / total) : 10;
}
