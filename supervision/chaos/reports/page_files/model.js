// The run as objects: lives of processes, the places in the tree where they were, and the rows to draw them in.

const RUN = JSON.parse(document.getElementById("run").textContent)
const text = (number) => (number === null || number < 0 ? "" : RUN.texts[number])
const END = Math.max(RUN.seconds * 1000, 1)
const MANY = 6 // lives at a time in one place, above which they are drawn as a crowd
const ROOM = 48 // rows, above which places are folded to begin with

const lives = RUN.lives.map(
  ([path, incarnation, parent, born, ended, manner, reason, fault, back, restarted, pid, node], index) => ({
    index, path: (node ? `/node ${node}` : "") + text(path), incarnation, parent, born, ended, manner,
    reason: text(reason), fault, back, restarted, pid, replaces: -1,
  }),
)
for (const life of lives) if (life.back >= 0) lives[life.back].replaces = life.index

const faults = RUN.faults.map(([time, words, status, why, target, ended, path, type], index) => ({
  index, time, words: text(words), status, why: text(why), target, ended, path: text(path), type,
}))
const happened = faults.filter((fault) => fault.status !== "not_applicable")

const messages = RUN.messages.map(([sent, from, to, received, words, lost], index) => ({
  index, sent, from, to, received, words: text(words), lost: lost === 1,
}))

const marks = RUN.marks.map(([time, kind, words]) => ({ time, kind, words: text(words) }))
const notes = marks.filter((mark) => mark.kind !== "steady" && mark.kind !== "unsteady")

// For each check of the steady state the spans of time in which it held, and in which it did not.
const checks = RUN.measures.steady.map(({ name }) => {
  const own = marks.filter((mark) => mark.kind.endsWith("steady") && mark.words.startsWith(`${name}: `))
  const until = RUN.closing ?? END
  return {
    name,
    spans: own.map((mark, number) => ({
      from: mark.time, to: own[number + 1]?.time ?? until, holds: mark.kind === "steady", words: mark.words,
    })),
  }
})

const endOf = (life) => life.ended ?? END
const aliveAt = (life, time) => life.born <= time && (life.ended === null || life.ended > time)

// Places: one for each path, below the place of its parent.

function makePlaces() {
  const byPath = new Map()
  const roots = []
  for (const life of lives) {
    let place = byPath.get(life.path)
    if (place === undefined) {
      const above = life.parent >= 0 ? byPath.get(lives[life.parent].path) : undefined
      const start = above === undefined ? 0 : above.path.length
      const name = life.path.slice(start).replace(/^\//, "")
      place = { path: life.path, name, above, depth: above ? above.depth + 1 : 0, lives: [], below: [], folded: false, open: false }
      byPath.set(life.path, place)
      ;(above ? above.below : roots).push(place)
    }
    place.lives.push(life)
  }
  return { byPath, roots }
}

const { byPath: places, roots } = makePlaces()

function below(place) {
  return place.below.flatMap((each) => [...each.lives, ...below(each)])
}

// How many of these live at a time: steps of [time, number], and the highest number.
function crowdOf(group) {
  const changes = []
  for (const life of group) {
    changes.push([life.born, 1])
    if (life.ended !== null) changes.push([life.ended, -1])
  }
  changes.sort((one, other) => one[0] - other[0] || one[1] - other[1])
  const steps = []
  let number = 0
  let peak = 0
  for (const [time, change] of changes) {
    number += change
    peak = Math.max(peak, number)
    if (steps.length && steps[steps.length - 1][0] === time) steps[steps.length - 1][1] = number
    else steps.push([time, number])
  }
  return { steps, peak }
}

// Lives into as few lines as there are at a time; one that came back goes where there was room the longest.
function linesOf(group) {
  const lines = []
  for (const life of group) {
    let best = null
    for (const line of lines) {
      if (line.free <= life.born && (best === null || line.free < best.free)) best = line
    }
    if (best === null) {
      best = { free: 0, lives: [] }
      lines.push(best)
    }
    best.lives.push(life)
    best.free = endOf(life)
    if (life.ended === null) best.free = Infinity
  }
  return lines.map((line) => line.lives)
}

for (const place of places.values()) {
  place.crowd = crowdOf(place.lives)
  place.crowded = place.crowd.peak > MANY
}

function linesIn(place) {
  if (place.crowded && !place.open) return 1
  return place.crowd.peak
}

function countRows(place) {
  if (place.folded) return linesIn(place) + (place.below.length ? 1 : 0)
  return linesIn(place) + place.below.reduce((sum, each) => sum + countRows(each), 0)
}

// Fold what is biggest until the rest can be looked at.
function foldAtFirst() {
  const deep = [...places.values()].filter((place) => place.below.length > 0)
  for (;;) {
    const rows = roots.reduce((sum, place) => sum + countRows(place), 0)
    if (rows <= ROOM) return
    const open = deep.filter((place) => !place.folded && countRows(place) > 3)
    if (open.length === 0) return
    // The deepest first, because what is further up says more.
    const deepest = Math.max(...open.map((place) => place.depth))
    const here = open.filter((place) => place.depth === deepest)
    here.sort((one, other) => countRows(other) - countRows(one))
    here[0].folded = true
  }
}

// The rows to draw, from the top; `wanted` says which places are looked for, null if none are.
function makeRows(wanted) {
  const rows = []
  const visit = (place) => {
    const shown = wanted === null || wanted.has(place)
    if (!shown) return
    const crowd = place.crowded && !place.open
    const lines = crowd ? [place.lives] : linesOf(place.lives)
    lines.forEach((line, number) => {
      rows.push({ place, first: number === 0, crowd: crowd ? place.crowd : null, lives: line, height: crowd ? 42 : 20, deeper: false })
    })
    if (place.folded && place.below.length && wanted === null) {
      const group = below(place)
      rows.push({ place, first: false, crowd: crowdOf(group), lives: group, height: 42, deeper: true })
    } else place.below.forEach(visit)
  }
  roots.forEach(visit)
  let y = 0
  for (const row of rows) {
    row.y = y
    y += row.height
  }
  return { rows, height: y }
}
