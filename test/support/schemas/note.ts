// Types that graphs of this folder share: a change here changes their schemas.

/** A note, and the notes below it. */
export interface Note {
  /** What it says. */
  text: string
  kind: 'idea' | 'task'
  done?: boolean
  at: Date
  below: Note[]
  print(): string
}
