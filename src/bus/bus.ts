// The bus seam: hints between processes. Nothing durable goes over it; whoever listens must also be right when any
// message is lost. Three implementations (memory, redis, postgres) pass one suite.

/** A message: `hint` is small and always arrives if anything does; `body` may be dropped where it does not fit. */
export interface BusMessage {
  hint: Record<string, string | number | boolean | null>
  /** May be made only when it is looked at: then `size` is how long it will be, about. */
  readonly body?: string
  readonly size?: number
}

/** How long a message's body is, without looking at it. */
export const bodySize = (message: BusMessage): number => message.size ?? message.body?.length ?? 0

export interface Bus {
  readonly kind: 'memory' | 'redis' | 'postgres'
  /** For the start-up line and logs: never holds a password. */
  readonly description: string
  /** Sends to every subscriber of the channel in every process, this one included (those here get it in the same turn
   *  of the event loop, without the network). Never throws and never waits; a failure is observed and dropped. */
  publish(channel: string, message: BusMessage): void
  /** Resolves when messages published from now on will be heard, or when that takes too long. `onGap` is called when messages
   *  may have been missed (a reconnect, a slow server): look at the database again. Returns the way to stop. */
  subscribe(channel: string, listener: (message: BusMessage) => void, onGap?: () => void): Promise<() => void>
  /** True while messages from other processes can arrive. */
  healthy(): boolean
  close(): Promise<void>
}
