import { Presets, SingleBar } from "cli-progress";

/** Shows the share of a job that is done, 0 to 1. Shows nothing of a job that never tells. */
export interface Progress {
  readonly show: (share: number) => void;
  readonly stop: () => void;
}

/** A bar on a terminal; elsewhere a line per tenth. */
export function createProgress(job: string, stream: NodeJS.WriteStream): Progress {
  return stream.isTTY ? bar(job, stream) : lines(job, stream);
}

function bar(job: string, stream: NodeJS.WriteStream): Progress {
  const bar = new SingleBar({ format: `${job} [{bar}] {percentage} %`, stream, hideCursor: true }, Presets.rect);
  return {
    show(share) {
      if (!bar.isActive) bar.start(100, 0);
      bar.update(Math.floor(share * 100));
    },
    stop: () => bar.stop(),
  };
}

function lines(job: string, stream: NodeJS.WriteStream): Progress {
  let shown = -1;
  return {
    show(share) {
      const tenth = Math.floor(share * 10);
      if (tenth > shown) stream.write(`${job} ${tenth * 10} %\n`);
      shown = Math.max(shown, tenth);
    },
    stop: () => {},
  };
}
