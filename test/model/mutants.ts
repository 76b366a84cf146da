// Ways in which the code could be wrong, each with the law that the model then finds broken. A model that finds nothing wrong says
// something only if it finds these.

export interface Mutant {
  /** The names of statements.ts, actions.ts, execution.ts and workers.ts. */
  faulty: string[]
  /** How the broken law begins; `stuck`: runs that cannot end by themselves. */
  breaks: string
  /** One run, one fault, nothing asked, unless it takes more. */
  runs?: number
  faults?: number
  asks?: number
}

/** What must be found. */
export const mutants: Mutant[] = [
  { faulty: ['fence without epoch'], breaks: 'fencing', faults: 2 },
  { faulty: ['settle without fence'], breaks: 'fencing', faults: 2 },
  { faulty: ['requeue keeps the epoch', 'claim keeps the epoch'], breaks: 'fencing', faults: 2 },
  { faulty: ['claim in any order'], breaks: 'order', runs: 2 },
  { faulty: ['create does not look'], breaks: 'order', runs: 2 },
  { faulty: ['claim behind a running run', 'claim on a held thread'], breaks: 'order', runs: 2 },
  { faulty: ['claim a run that runs', 'claim on a held thread'], breaks: 'table' },
  { faulty: ['charge after the claim'], breaks: 'attempts', faults: 2 },
  { faulty: ['rescue without limit'], breaks: 'attempts', faults: 2 },
  { faulty: ['renew after expiry'], breaks: 'self-fencing' },
  { faulty: ['trust past the lease'], breaks: 'self-fencing' },
  { faulty: ['cancel ends what runs'], breaks: 'self-fencing', asks: 1 },
  { faulty: ['begin anew'], breaks: 'nodes' },
  { faulty: ['seq from the thread alone'], breaks: 'seq', faults: 2 },
  { faulty: ['requeue forgets the seq'], breaks: 'seq', runs: 2, asks: 2 },
  { faulty: ['publish before the commit'], breaks: 'result' },
  { faulty: ['requeue keeps the holder'], breaks: 'holder' },
  { faulty: ['end keeps the holder'], breaks: 'holder', faults: 2 },
  { faulty: ['a waiting run keeps its checkpoints'], breaks: 'rollback', asks: 1 },
  { faulty: ['settle over a rollback'], breaks: 'rollback', asks: 1 },
  { faulty: ['cancel forgets a rollback'], breaks: 'rollback', asks: 2 },
  { faulty: ['delete any run'], breaks: 'table', asks: 1 },
  { faulty: ['settle after losing the lease'], breaks: 'whole', faults: 2 },
  { faulty: ['no disowning'], breaks: 'stuck' },
  { faulty: ['no rescue'], breaks: 'stuck' },
  { faulty: ['rescue leaves what is to be cancelled'], breaks: 'stuck', asks: 1 },
]

/** What another defence makes up for: nothing is broken when one of them is missing. */
export const spare: Mutant[] = [
  { faulty: ['requeue keeps the epoch'], breaks: 'nothing: the claim moves it on as well', faults: 2 },
  { faulty: ['claim keeps the epoch'], breaks: 'nothing: giving a run back moves it on as well', faults: 2 },
  { faulty: ['claim on a held thread'], breaks: 'nothing: it looks for older runs too', runs: 2 },
  { faulty: ['claim behind a running run'], breaks: 'nothing: it looks for a holder too', runs: 2 },
]
