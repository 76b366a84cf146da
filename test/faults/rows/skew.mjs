// A clock that is wrong by SKEW_MS, for a process that is started with --import of this file.

const skew = Number(process.env.SKEW_MS)
const RealDate = Date
globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + skew)
    else super(...args)
  }
  static now() {
    return RealDate.now() + skew
  }
}
