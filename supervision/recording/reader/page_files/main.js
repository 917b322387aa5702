// Input: keys, pointer and buttons.

const timeline = byId("timeline")

function pick(what) {
  view.picked = what
  if (what?.fault !== undefined) setMoment(faults[what.fault].time, true)
  else if (what?.process !== undefined && !following) bringIntoView(processes[what.process].born)
  showDetail()
  showFaults()
  redraw()
}

function setMoment(time, bring = false) {
  stopFollowing()
  view.moment = Math.max(START, Math.min(time, END))
  if (bring) bringIntoView(view.moment)
  showTree()
  redraw()
}

function measureRoom() {
  view.width = timeline.clientWidth
  view.height = timeline.clientHeight
  LABELS = Math.round(Math.min(264, Math.max(110, view.width * 0.3)))
  byId("spacer").style.height = `${Math.max(0, HEAD + view.total + 12 - view.height)}px`
  redraw()
}

function rearrange() {
  layOut()
  measureRoom()
  showTree() // it folds the endpoint's own processes too
}

function nextFault(direction) {
  const ahead = happened.filter((fault) => (fault.time - view.moment) * direction > 0.0005)
  const fault = direction > 0 ? ahead[0] : ahead[ahead.length - 1]
  if (fault) pick({ fault: fault.index })
}

let touched = false // true after the user has folded or unfolded a place; new parts then fold nothing

function toggle(row) {
  touched = true
  const place = row.place
  if (row.deeper || place.below.length) place.folded = !place.folded
  else if (place.crowded) place.open = !place.open
  else return
  rearrange()
}

function foldAll(folded) {
  touched = true
  for (const place of places.values()) {
    if (place.below.length && place.depth > 0) place.folded = folded
    if (folded) place.open = false
  }
  rearrange()
}

// The pointer

let dragging = null

canvas.addEventListener("pointerdown", (event) => {
  const { offsetX: x, offsetY: y } = event
  dragging = { x, y, from: view.from, to: view.to, moved: false, scrub: x >= LABELS && y < PHASES + AXIS }
  canvas.setPointerCapture(event.pointerId)
  if (dragging.scrub) setMoment(timeAt(x))
})

canvas.addEventListener("pointermove", (event) => {
  const { offsetX: x, offsetY: y } = event
  if (dragging === null) return hover(event, x, y)
  if (Math.abs(x - dragging.x) > 3) dragging.moved = true
  if (dragging.scrub) setMoment(timeAt(x))
  else if (dragging.moved && dragging.x >= LABELS) {
    const shift = ((x - dragging.x) / (view.width - LABELS)) * (dragging.to - dragging.from)
    stopFollowing()
    look(dragging.from - shift, dragging.to - shift)
    redraw()
  }
})

canvas.addEventListener("pointerup", (event) => {
  const { offsetX: x, offsetY: y } = event
  const was = dragging
  dragging = null
  if (was === null || was.moved || was.scrub) return
  const fault = faultAt(x, y)
  const row = rowAt(y)
  const process = processAt(x, y)
  if (fault) pick({ fault: fault.index })
  else if (row && x < LABELS) toggle(row)
  else {
    if (x >= LABELS) setMoment(timeAt(x))
    pick(process ? { process: process.index } : null)
  }
})

canvas.addEventListener("pointerleave", () => {
  byId("tip").hidden = true
  view.hover = null
  redraw()
})

function hover(event, x, y) {
  const fault = faultAt(x, y)
  const process = fault ? undefined : processAt(x, y)
  const words = fault ? faultWords(fault) : process ? processWords(process) : elseWords(x, y)
  const changed = view.hover?.process !== process?.index
  view.hover = process ? { process: process.index } : null
  const tip = byId("tip")
  tip.hidden = !words
  tip.textContent = words
  tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 12)}px`
  tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`
  if (changed) redraw()
}

function faultWords(fault) {
  const took = fault.ended.length ? `; ended ${plural(fault.ended.length, "process", "processes")}` : ""
  return `${at(fault.time)}: ${fault.words} (${fault.status}${took})`
}

function processWords(process) {
  const end = process.ended === null ? "" : `\nended at ${at(process.ended)}: ${process.reason}`
  return `${nameOf(process)} #${process.incarnation}\nfrom ${at(process.born)}${end}`
}

function elseWords(x, y) {
  const row = rowAt(y)
  if (row && x < LABELS) return row.place.path + (row.deeper ? " and below" : "")
  if (row?.crowd) {
    const time = timeAt(x)
    return `${row.processes.filter((process) => aliveAt(process, time)).length} at ${at(time)}`
  }
  if (x < LABELS) return ""
  const note = noteAt(x, y)
  if (note) return `${at(note.time)}: ${note.words}`
  return spanAt(x, y)?.words ?? ""
}

timeline.addEventListener("wheel", (event) => {
  const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY)
  if (!event.ctrlKey && !event.metaKey && !event.shiftKey && !sideways) return
  event.preventDefault()
  const span = view.to - view.from
  if (event.ctrlKey || event.metaKey) zoom(Math.exp(event.deltaY * 0.003), timeAt(Math.max(event.offsetX, LABELS)))
  else {
    const shift = ((event.deltaX || event.deltaY) / view.width) * span
    stopFollowing()
    look(view.from + shift, view.to + shift)
  }
  redraw()
}, { passive: false })

timeline.addEventListener("scroll", () => {
  view.scroll = timeline.scrollTop
  redraw()
})

// Buttons and keys

const middle = () => (view.moment >= view.from && view.moment <= view.to ? view.moment : (view.from + view.to) / 2)
const actions = {
  in: () => zoom(0.5, middle()),
  out: () => zoom(2, middle()),
  whole: lookAtAll,
  previous: () => nextFault(-1),
  next: () => nextFault(1),
  fold: () => foldAll(true),
  unfold: () => foldAll(false),
  theme: () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
}
for (const [id, action] of Object.entries(actions)) byId(id).onclick = () => { action(); redraw() }

byId("messages").onchange = (event) => { view.messages = event.target.value; redraw() }
byId("scrubber").oninput = (event) => setMoment(START + (event.target.value / 1000) * (END - START), true)
byId("search").oninput = (event) => {
  lookFor(event.target.value.trim())
  const shown = new Set(view.rows.map((row) => row.place)).size
  byId("found").textContent = view.search ? `${plural(shown, "place")}, ${plural(view.found.size, "message")}` : ""
  measureRoom()
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key === "Escape") event.target.blur()
    return
  }
  const step = (view.to - view.from) / (event.shiftKey ? 20 : 200)
  const keys = {
    ArrowLeft: () => setMoment(view.moment - step, true), ArrowRight: () => setMoment(view.moment + step, true),
    "[": actions.previous, "]": actions.next, "+": actions.in, "=": actions.in, "-": actions.out, 0: actions.whole,
    "/": () => byId("search").focus(), Escape: () => pick(null),
  }
  const action = keys[event.key]
  if (!action) return
  event.preventDefault()
  action()
  redraw()
})

function setTheme(theme) {
  document.documentElement.dataset.theme = theme
  readColors()
  redraw()
}

const dark = matchMedia("(prefers-color-scheme: dark)")
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"))
setTheme(dark.matches ? "dark" : "light")
new ResizeObserver(measureRoom).observe(timeline)

lookAtAll()
view.moment = happened.length ? happened[0].time : END / 2
showVerdict()
showFigures()
showLegend()
showFaults()
showPlaces()
showDetail()
rearrange()
