// Bursts of runs that nobody waits for. In charge of letting them be accepted before more of them are begun: accepting one is
// quick and what its client waits for. Must never hold up a run that somebody waits for, nor any run for long.

/** How many may be created at once before beginning runs has to yield. */
const MANY = 8
/** How long it yields at most, however many are still being created. */
const YIELD_MS = 250

export interface Pressure {
  /** Counts a creation until what it gives is called. */
  enter(): () => void
  high(): boolean
  /** Resolves when it is not high any more, or after a while. */
  relief(): Promise<void>
}

/** One for each process. */
export function createPressure(): Pressure {
  let creating = 0
  const relieve: (() => void)[] = []
  const high = () => creating > MANY
  return {
    enter() {
      creating++
      return () => {
        creating--
        if (high()) return
        for (const resolve of relieve.splice(0)) resolve()
      }
    },
    high,
    async relief() {
      if (!high()) return
      let timer: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        relieve.push(resolve)
        timer = setTimeout(resolve, YIELD_MS)
      })
      clearTimeout(timer)
    },
  }
}
