// The page of a running program. The outer page passes the parts to this frame, and the view follows the newest moment.

const SPAN = 60000 // milliseconds that the view shows at first
const KEPT = 20000 // messages

let following = LIVE
let begun = false

const timeline_of_page = {
  take: takePart,
  follow,
  theme: setTheme,
  isFollowing: () => following,
  onStop: null, // the outer page sets these: functions for a stop by the user, and for a key
  onKey: null,
}

function takePart(part) {
  if (part.first) {
    Object.assign(RUN, { processes: [], faults: [], messages: [], marks: [], texts: [], began: part.began, start: part.start * 1000 })
    RUN.measures.faults = []
    view.picked = view.hover = null
  }
  RUN.texts.push(...part.texts)
  for (const [index, row] of part.processes) RUN.processes[index] = row
  for (const [index, row, figures] of part.faults) {
    RUN.faults[index] = row
    RUN.measures.faults[index] = figures
  }
  RUN.messages.push(...part.messages)
  if (RUN.messages.length > KEPT) RUN.messages.splice(0, RUN.messages.length - KEPT)
  RUN.marks.push(...part.marks)
  RUN.seconds = part.seconds
  const isNew = ["processes", "faults", "messages", "marks"].some((name) => part[name].length > 0)
  if (isNew) {
    readRun()
    measureHead()
    if (!touched) foldAtFirst()
  } else END = Math.max(RUN.seconds * 1000, START + 1)
  if (part.more) return
  if (following) goToEnd()
  if (isNew) {
    lookFor(view.search)
    measureRoom()
    showFaults()
    showPlaces()
    showDetail()
  }
  if (isNew || following) showTree()
  redraw()
}

function goToEnd() {
  const span = begun ? view.to - view.from : SPAN
  begun = true
  view.moment = END
  // Keep the length of the view even if it is longer than the run. Otherwise it would stretch with every part.
  view.to = END + span * 0.02
  view.from = view.to - span
}

function follow(on) {
  following = on
  if (!on) return
  goToEnd()
  showTree()
  redraw()
}

// The user looks at another moment, so the view must stop there.
function stopFollowing() {
  if (!following) return
  following = false
  timeline_of_page.onStop?.()
}

if (LIVE) {
  document.body.classList.add("live")
  window.timeline = timeline_of_page
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, button")) return
    if (event.key === " ") event.preventDefault()
    if (event.key === " " || event.key === "t") timeline_of_page.onKey?.(event.key)
  })
}
