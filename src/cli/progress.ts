// A progress bar for the person who waits; lines now and then where nobody watches. In charge of nothing but what is printed.

export interface Progress {
  /** So much is done. */
  at(done: number): void
  /** The bar's line is over. */
  end(): void
}

/** What is written to; `process.stderr` or something like it. */
export interface ProgressStream {
  isTTY?: boolean
  write(text: string): unknown
}

const WIDTH = 30
const BAR_MS = 100
const LINE_MS = 5_000

/** Makes one. `now` is a clock in ms. */
export function createProgress(options: {
  total: number
  of: string
  stream: ProgressStream
  now?: () => number
}): Progress {
  const { total, of, stream, now = () => performance.now() } = options
  const began = now()
  let shown = Number.NEGATIVE_INFINITY
  const words = (done: number): string => {
    const seconds = (now() - began) / 1_000
    const rate = seconds > 0 ? done / seconds : 0
    const left = rate > 0 && done < total ? `, ${duration((total - done) / rate)} left` : ''
    return `${done} of ${total} ${of}, ${Math.floor((100 * done) / total)} %, ${Math.round(rate)}/s${left}`
  }
  return {
    at(given) {
      const done = Math.min(given, total)
      if (done < total && now() - shown < (stream.isTTY ? BAR_MS : LINE_MS)) return
      shown = now()
      const full = Math.round((WIDTH * done) / total)
      const bar = `[${'#'.repeat(full)}${'.'.repeat(WIDTH - full)}]`
      stream.write(stream.isTTY ? `\r\x1b[K${bar} ${words(done)}` : `${words(done)}\n`)
    },
    end: () => void (stream.isTTY && stream.write('\n')),
  }
}

const duration = (seconds: number): string =>
  seconds < 90
    ? `${Math.ceil(seconds)} s`
    : seconds < 5_400
      ? `${Math.round(seconds / 60)} min`
      : `${Math.round(seconds / 3_600)} h`
