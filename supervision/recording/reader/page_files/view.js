// The view: the visible time and rows, the selected moment, the picked item and the search.

let LABELS = 264 // smaller on narrow pages
const PHASES = 18
const AXIS = 20
const FAULTS = 24
const STRIP = 15
const FOUND = 100 // the largest number of processes of one place that a search shows
let HEAD = 0

function measureHead() {
  HEAD = PHASES + AXIS + FAULTS + checks.length * STRIP + (notes.length ? STRIP : 0) + 6
}

measureHead()
foldAtFirst()

const view = {
  from: 0, to: END, width: 0, height: 0, scroll: 0, moment: 0, picked: null, hover: null, messages: "auto", search: "",
  rows: [], total: 0, rowOf: new Map(), found: new Set(),
}

const xOf = (time) => LABELS + ((time - view.from) / (view.to - view.from)) * (view.width - LABELS - 8)
const timeAt = (x) => view.from + ((x - LABELS) / (view.width - LABELS - 8)) * (view.to - view.from)

function lookFor(words) {
  view.search = words
  view.found = new Set()
  if (words) {
    const small = words.toLowerCase()
    for (const message of messages) if (message.words.toLowerCase().includes(small)) view.found.add(message.index)
  }
  layOut()
}

function layOut() {
  let wanted = null
  if (view.search) {
    const small = view.search.toLowerCase()
    wanted = new Map()
    const want = (place, found) => {
      wanted.set(place, found)
      for (let each = place.above; each; each = each.above) if (!wanted.has(each)) wanted.set(each, null)
    }
    for (const place of places.values()) {
      if (place.path.toLowerCase().includes(small)) want(place, null)
      else {
        const found = place.processes.filter((process) => process.title.toLowerCase().includes(small)).slice(0, FOUND)
        if (found.length) want(place, new Set(found))
      }
    }
    for (const index of view.found) {
      for (const process of [messages[index].from, messages[index].to]) {
        if (process >= 0) want(places.get(processes[process].path), null)
      }
    }
  }
  const { rows, height } = makeRows(wanted)
  view.rows = rows
  view.total = height
  view.rowOf = new Map()
  for (const row of rows) for (const process of row.processes) view.rowOf.set(process.index, row)
}

function zoom(factor, around) {
  const span = Math.min((END - START) * 1.02, Math.max(2, (view.to - view.from) * factor))
  const share = (around - view.from) / (view.to - view.from)
  look(around - share * span, around - share * span + span)
}

function look(from, to) {
  const span = to - from
  const slack = (END - START) * 0.01
  view.from = Math.max(START - slack, Math.min(from, END + slack - span))
  view.to = view.from + span
}

const lookAtAll = () => look(START - (END - START) * 0.01, END + (END - START) * 0.01)

function bringIntoView(time) {
  const span = view.to - view.from
  if (time < view.from || time > view.to) look(time - span / 2, time + span / 2)
}

function rowAt(y) {
  const inside = y - HEAD + view.scroll
  return y < HEAD ? undefined : view.rows.find((row) => inside >= row.y && inside < row.y + row.height)
}

function processAt(x, y) {
  const row = rowAt(y)
  if (row === undefined || x < LABELS || row.crowd) return undefined
  const slack = ((view.to - view.from) / view.width) * 3
  const time = timeAt(x)
  return row.processes.find((process) => time >= process.born - slack && time <= endOf(process) + slack)
}

function faultAt(x, y) {
  const top = PHASES + AXIS
  if (y < top || y > top + FAULTS) return undefined
  let best
  for (const fault of happened) {
    const away = Math.abs(xOf(fault.time) - x)
    if (away < 7 && (best === undefined || away < Math.abs(xOf(best.time) - x))) best = fault
  }
  return best
}

function seconds(milliseconds, digits = 3) {
  return `${(milliseconds / 1000).toFixed(digits)} s`
}

// A moment as text: seconds since the start of a recorded run, or the time of day in a live run.
function at(time, digits = 3) {
  if (!LIVE) return seconds(time, digits)
  const day = new Date(RUN.began * 1000 + time)
  const clock = day.toLocaleTimeString("en-GB", { hour12: false })
  return digits === 0 ? clock : `${clock}.${String(day.getMilliseconds()).padStart(3, "0").slice(0, digits)}`
}

// A duration as short text.
function length(inSeconds) {
  if (inSeconds === null || inSeconds === undefined) return "–"
  if (inSeconds < 0.0001) return "0 ms"
  if (inSeconds < 0.01) return `${(inSeconds * 1000).toPrecision(2)} ms`
  if (inSeconds < 1) return `${Math.round(inSeconds * 1000)} ms`
  return `${inSeconds < 10 ? inSeconds.toFixed(2) : inSeconds.toFixed(1)} s`
}
