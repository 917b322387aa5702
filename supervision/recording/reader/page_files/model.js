// The run as objects: its processes, their places in the tree, and the rows to draw them in.

const RUN = JSON.parse(document.getElementById("run").textContent)
const LIVE = RUN.live === true // the program still runs, and its data arrives in parts
const MANY = 6 // if one place has more processes, the page draws them as a crowd
const OWN = "Ashtree's own processes"
const ROOM = 48 // if there are more rows, the page folds places at first

const text = (number) => (number === null || number < 0 ? "" : RUN.texts[number])

let START = 0 // the first recorded moment
let END = 1
let processes = []
let faults = []
let happened = []
let messages = []
let marks = []
let notes = []
let checks = []
let places = new Map()
let roots = []

// Make the objects from RUN. A live run does this again after each part that changes RUN. Folded places stay folded, and
// open places stay open.
function readRun() {
  START = RUN.start ?? 0
  END = Math.max(RUN.seconds * 1000, START + 1)
  processes = RUN.processes.map(
    ([path, incarnation, parent, born, ended, ending, reason, fault, back, restarted, pid, node, title], index) => ({
      index, path: (node ? `/node ${node}` : "") + text(path), incarnation, parent, born, ended, ending,
      reason: text(reason), fault, back, restarted, pid, replaces: -1, title: text(title),
    }),
  )
  for (const process of processes) if (process.back >= 0) processes[process.back].replaces = process.index
  faults = RUN.faults.map(([time, words, status, why, target, ended, path, type], index) => ({
    index, time, words: text(words), status, why: text(why), target, ended, path: text(path), type,
  }))
  happened = faults.filter((fault) => fault.status !== "not_applicable")
  messages = RUN.messages.map(([sent, from, to, received, words, lost], index) => ({
    index, sent, from, to, received, words: text(words), lost: lost === 1,
  }))
  marks = RUN.marks.map(([time, kind, words]) => ({ time, kind, words: text(words) }))
  notes = marks.filter((mark) => mark.kind !== "steady" && mark.kind !== "unsteady")
  checks = RUN.measures.steady.map(readCheck)
  makePlaces()
}

// The spans of time in which a steady-state check held or did not hold.
function readCheck({ name }) {
  const own = marks.filter((mark) => mark.kind.endsWith("steady") && mark.words.startsWith(`${name}: `))
  const until = RUN.closing ?? END
  return {
    name,
    spans: own.map((mark, number) => ({
      from: mark.time, to: own[number + 1]?.time ?? until, holds: mark.kind === "steady", words: mark.words,
    })),
  }
}

const endOf = (process) => process.ended ?? END
const aliveAt = (process, time) => process.born <= time && (process.ended === null || process.ended > time)

// The path of a process. For a channel, it ends with the class and the topic.
const nameOf = (process) => (process.title ? `${process.path.slice(0, process.path.lastIndexOf("/"))}/${process.title}` : process.path)

// Each path has one place. It is below the place of the parent process.

function makePlaces() {
  const before = places
  places = new Map()
  roots = []
  for (const process of processes) {
    let place = places.get(process.path)
    if (place === undefined) {
      const above = process.parent >= 0 ? places.get(processes[process.parent].path) : undefined
      // A channel gets its name when it has joined. The path of a process below it may have the earlier name.
      const isBelow = above !== undefined && process.path.startsWith(`${above.path}/`)
      const start = isBelow ? above.path.length : above === undefined ? 0 : process.path.lastIndexOf("/")
      const part = process.path.slice(start).replace(/^\//, "")
      // The partitions of a pool have only numbers.
      const name = above !== undefined && /^\d+$/.test(part) ? `${above.name} ${part}` : part
      const { folded, open } = before.get(process.path) ?? { folded: false, open: false }
      place = { path: process.path, name, above, depth: above ? above.depth + 1 : 0, processes: [], below: [], titles: new Set(), folded, open }
      places.set(process.path, place)
      ;(above ? above.below : roots).push(place)
    }
    place.processes.push(process)
    if (process.title) place.titles.add(process.title)
  }
  for (const place of places.values()) {
    // Below an endpoint, its own processes follow the processes of the application: the children and the channels.
    if (place.name === "endpoint") fold(place, before)
    place.crowd = crowdOf(place.processes)
    place.crowded = place.crowd.peak > MANY || place.titles.size > MANY
  }
}

function isInternal({ name }) {
  return name !== "children" && (!name.endsWith(" channels") || name === "ObserverSocket channels")
}

// Put the endpoint's own processes below one place, which has no process and is folded at first, as in the observer.
function fold(endpoint, before) {
  const inside = endpoint.below.filter(isInternal)
  if (inside.length === 0) return
  const path = `${endpoint.path}/${OWN}`
  const { folded, open } = before.get(path) ?? { folded: true, open: false }
  const place = { path, name: OWN, above: endpoint, depth: endpoint.depth + 1, processes: [], below: inside, titles: new Set(), folded, open }
  places.set(path, place)
  endpoint.below = [...endpoint.below.filter((each) => !isInternal(each)), place]
  const lower = (each) => {
    each.depth += 1
    each.below.forEach(lower)
  }
  for (const each of inside) {
    each.above = place
    lower(each)
  }
}

function below(place) {
  return place.below.flatMap((each) => [...each.processes, ...below(each)])
}

// The number of living processes over time, as steps of [time, number], and its maximum.
function crowdOf(group) {
  const changes = []
  for (const process of group) {
    changes.push([process.born, 1])
    if (process.ended !== null) changes.push([process.ended, -1])
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

// Arrange processes in as few lines as possible. A replacement takes the line that was free the longest. Channels of
// different topics never share a line.
function linesOf(group) {
  const byTitle = new Map()
  for (const process of group) {
    if (!byTitle.has(process.title)) byTitle.set(process.title, [])
    byTitle.get(process.title).push(process)
  }
  return [...byTitle.values()].flatMap(linesOfOne)
}

function linesOfOne(group) {
  const lines = []
  for (const process of group) {
    let best = null
    for (const line of lines) {
      if (line.free <= process.born && (best === null || line.free < best.free)) best = line
    }
    if (best === null) {
      best = { free: 0, processes: [] }
      lines.push(best)
    }
    best.processes.push(process)
    best.free = endOf(process)
    if (process.ended === null) best.free = Infinity
  }
  return lines.map((line) => line.processes)
}

function linesIn(place) {
  if (place.crowded && !place.open) return 1
  return Math.max(1, place.crowd.peak, place.titles.size)
}

function countRows(place) {
  if (place.folded) return linesIn(place) + (place.below.length ? 1 : 0)
  return linesIn(place) + place.below.reduce((sum, each) => sum + countRows(each), 0)
}

// Fold the largest places until the rest fits.
function foldAtFirst() {
  const deep = [...places.values()].filter((place) => place.below.length > 0)
  for (;;) {
    const rows = roots.reduce((sum, place) => sum + countRows(place), 0)
    if (rows <= ROOM) return
    const open = deep.filter((place) => !place.folded && countRows(place) > 3)
    if (open.length === 0) return
    // Fold the deepest places first, because higher places show more of the run.
    const deepest = Math.max(...open.map((place) => place.depth))
    const here = open.filter((place) => place.depth === deepest)
    here.sort((one, other) => countRows(other) - countRows(one))
    here[0].folded = true
  }
}

// The rows to draw, from the top. `wanted` maps each place that a search shows to its found processes. null in place of
// the processes means all of them. Without a search, `wanted` is null.
function makeRows(wanted) {
  const rows = []
  const visit = (place) => {
    const shown = wanted === null || wanted.has(place)
    if (!shown) return
    const found = wanted?.get(place)
    const group = found ? place.processes.filter((process) => found.has(process)) : place.processes
    const crowd = place.crowded && !place.open && !found
    const isFolded = place.folded && place.below.length > 0 && wanted === null
    const hasHead = place.processes.length > 0 || !isFolded
    const lines = crowd || !place.processes.length ? [group] : linesOf(group)
    if (hasHead) lines.forEach((line, number) => {
      rows.push({ place, first: number === 0, crowd: crowd ? place.crowd : null, processes: line, height: crowd ? 42 : 20, deeper: false })
    })
    if (isFolded) {
      const group = below(place)
      rows.push({ place, first: !hasHead, crowd: crowdOf(group), processes: group, height: 42, deeper: hasHead })
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

readRun()
