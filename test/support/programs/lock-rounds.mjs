// Tries to lock one directory after the other, each at its agreed moment, and says which it got; holds them until its
// input ends. Run in many processes at once, so that they meet.

const [lockFile, start, every, ...dirs] = process.argv.slice(2)
const { lockDirectory } = await import(lockFile)
const got = []
for (const [round, dir] of dirs.entries()) {
  while (Date.now() < Number(start) + round * Number(every));
  try {
    lockDirectory(dir)
    got.push(round)
  } catch (error) {
    if (error.name !== 'ConfigError') throw error
  }
}
process.stdout.write(`${JSON.stringify(got)}\n`)
process.stdin.resume()
