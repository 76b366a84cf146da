// The public surface of the package: a server to embed.

export { createHeddle, type GraphSetting, type Heddle, type HeddleOptions } from './app.ts'
export type { ServerConfig } from './config.ts'
export type { DatabaseSettings } from './db/open.ts'
export { ApiError, ConfigError, type ErrorCode } from './errors.ts'
export type { GraphSource, GraphStatus } from './executor/protocol.ts'
export type { Observation, Observe } from './observe.ts'
