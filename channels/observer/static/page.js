// The observer page: one channel of phoenix.js, whose news the tree, the charts and the list of events show.

import { Socket } from "./phoenix.mjs"
import { Charts, Entities, Nodes } from "./charts.js"
import { Past } from "./past.js"
import { duration, Events, ProcessPanel } from "./story.js"
import { Tree } from "./tree.js"

const byId = (id) => document.getElementById(id)
const facts = { interval: 0.5, control: false, payloads: false }
let ticket = ""
let actions = {}
let channel = null
let heard = null // the time of the last news, in milliseconds since the page was loaded
let lost = null // why there is no news, in words
let last = 0 // the number of the last event
let program = 0 // the run of the server's program that the number belongs to

// Show the age of the page when the news stops.

function showState() {
  const silent = heard === null ? null : (performance.now() - heard) / 1000
  const patience = Math.max(2, facts.interval * 4)
  const isLate = silent !== null && silent > patience
  const state = byId("state")
  const [name, words] = lost !== null ? ["lost", lost.short] : heard === null ? ["waiting", "Connecting"] : isLate ? ["late", "Late"] : ["live", "Live"]
  if (state.textContent !== words) state.textContent = words
  state.className = name
  const isStale = (lost !== null || isLate) && heard !== null
  document.body.classList.toggle("stale", isStale)
  const banner = byId("banner")
  banner.hidden = lost === null && !isLate
  const age = silent === null ? "" : ` What you see is ${duration(silent)} old.`
  const why = lost !== null ? lost.words : "The server is connected, but has sent no news for a while."
  const text = `${why}${age}`
  if (!banner.hidden && banner.textContent !== text) banner.textContent = text
}
setInterval(showState, 500)

const LOST = {
  server: { short: "No server", words: "The connection to the server is lost. The page tries again by itself." },
  branch: { short: "Interrupted", words: "The page's own channel has ended. It joins again by itself." },
  refused: { short: "Refused", words: "The server does not admit this page. Open the address that the server printed when it started." },
}

function lose(why) {
  if (lost === LOST.refused && why !== LOST.refused) return
  if (lost === null && heard !== null) events.gap(`${why.short}: events are missing here, if there were any`)
  lost = why
  showState()
}

// The parts of the page

const charts = new Charts(byId("figures"))
const nodes = new Nodes(byId("nodes"), showNode)
const entities = new Entities(byId("entities"), (pid, key) => openProcess(pid, key))
const tree = new Tree(byId("tree"), {
  pick: (row) => openProcess(row.pid, row.title),
  view: (view) => channel?.push("view", view),
})
const panel = new ProcessPanel(byId("process"), {
  close: closeProcess,
  open: (number) => openProcess(number, `<pid ${number}>`),
  act: (action, number) => {
    panel.answer(shown === null ? "" : `Waiting for the answer of ${shown}`, true)
    channel.push("act", { action, pid: number, node: shown, incarnation, program })
      .receive("ok", ({ job }) => job && awaitJob(job))
      .receive("error", ({ reason }) => panel.answer(reason))
      .receive("timeout", () => panel.answer("the server did not answer"))
  },
})
const events = new Events(byId("events"), byId("paused"), (number) => {
  // Only the events of this node name a process.
  if (shown !== null) showNode(null)
  const row = tree.rows.get(`p${number}`)
  tree.mark(row ? row.key : null)
  openProcess(number, row ? row.title : `<pid ${number}>`)
})

function openProcess(number, title) {
  panel.open(number, title, actions, shown)
  askForProcess(number)
}

function askForProcess(number) {
  channel.push("process", { pid: number }).receive("ok", (about) => {
    if (panel.number === number) panel.about(about)
  })
}

function closeProcess() {
  panel.close()
  tree.mark(null)
  channel.push("process", { pid: null })
  byId("tree").focus()
}

// Another node

let shown = null // the node whose processes the page shows; null is the node of the page
let incarnation = null // the start of that node that the rows belong to
const JOB = 5000 // milliseconds for another node to carry out an action

function showNode(node) {
  if (panel.number !== null) closeProcess()
  shown = node
  incarnation = null
  entities.show(0, [])
  channel.push("node", { node })
  sayElsewhere(node === null ? null : { node, silent: 0, answered: false })
}
byId("home").onclick = () => showNode(null)

// Show which node the processes belong to, and when that node last answered.
function sayElsewhere(state) {
  byId("where").textContent = state === null ? "" : ` of ${state.node}`
  byId("home").hidden = state === null
  const place = byId("answered")
  place.hidden = state === null
  const isSilent = state !== null && state.silent > 3
  place.classList.toggle("silent", isSilent)
  byId("tree").classList.toggle("silent", isSilent || (state !== null && !state.answered))
  if (state === null) return
  const age = duration(state.silent)
  if (!state.answered) place.textContent = isSilent ? `${state.node} has not answered for ${age}.` : `Asking ${state.node}`
  else place.textContent = isSilent ? `${state.node} has not answered for ${age}. What you see is ${age} old.` : `${state.node} answers. You see its processes, not the processes of the node that serves this page.`
}

// After a restart of the node, its process numbers belong to other processes, so close the panel.
function noteIncarnation(now) {
  if (incarnation && incarnation !== now && panel.number !== null) closeProcess()
  incarnation = now
}

let job = 0

function awaitJob(number) {
  job = number
  const node = shown
  setTimeout(() => {
    if (job === number) panel.answer(`${node} has not answered. It may still carry out the action.`)
  }, JOB)
}

// The channel

async function fetchTicket() {
  try {
    const answer = await fetch("ticket", { method: "POST" })
    if (answer.status === 403) return lose(LOST.refused)
    if (!answer.ok) return
    const given = await answer.json()
    ticket = given.ticket
    Object.assign(facts, given)
    if (lost === LOST.refused) lost = LOST.server
  } catch {
    // The server does not answer yet. phoenix.js tries to connect again, and the page then asks for a new ticket.
  }
}

function start() {
  const socket = new Socket(new URL("socket", location.href).pathname, {
    params: () => ({ ticket }),
    reconnectAfterMs: (tries) => [100, 200, 500, 1000, 2000][tries - 1] ?? 3000,
    rejoinAfterMs: (tries) => [100, 300, 1000][tries - 1] ?? 2000,
  })
  socket.onError(() => { lose(LOST.server); fetchTicket() })
  socket.onClose(() => { lose(LOST.server); fetchTicket() })
  channel = socket.channel("observer", () => ({ ...tree.wanted(), last, program }))
  channel.onError(() => { if (socket.isConnected()) lose(LOST.branch) })
  channel.on("tick", (tick) => {
    heard = performance.now()
    lost = null
    if (tick.elsewhere === undefined ? shown === null : tick.elsewhere.node === shown) {
      if (tick.elsewhere) noteIncarnation(tick.elsewhere.incarnation)
      if (tick.now !== undefined) tree.apply(tick)
      if (tick.elsewhere) sayElsewhere(tick.elsewhere)
      if (tick.now !== undefined) entities.show(tick.now, tick.entities)
    }
    if (tick.point) {
      charts.add(tick.point)
      nodes.show(tick.nodes, shown)
    }
    if (tick.events) addEvents(tick.events)
    showState()
  })
  channel.on("timeline", (part) => past.take(part))
  channel.on("process", (fields) => {
    if (fields.number !== panel.number) return
    if (fields.about) panel.about(fields.about)
    panel.detail(fields)
  })
  channel.on("acted", (done) => {
    if (done.job !== job) return
    job = 0
    panel.answer(done.problem ?? `${shown} has carried out the action`, done.problem === null)
  })
  channel.join()
    .receive("ok", (first) => {
      actions = first.actions
      if (program !== 0 && program !== first.program) {
        events.gap("The program was started again. Earlier events are of the run before")
        // The number of the open process may belong to another process now.
        if (panel.number !== null) closeProcess()
      }
      program = first.program
      byId("rights").textContent = facts.control ? "with control" : "read-only"
      charts.reset(first.points)
      addEvents(first.events)
      offerLevels(first)
      if (shown !== null) showNode(shown)
      else if (panel.number !== null) askForProcess(panel.number)
      past.rejoined()
    })
    .receive("error", ({ reason }) => {
      lose({ short: "Refused", words: `The observer refused the page: ${reason}.` })
    })
  socket.connect()
}

function addEvents(found) {
  if (found.length === 0) return
  last = found[found.length - 1].n
  events.add(found)
}

function offerLevels({ loggers, levels }) {
  byId("logger").closest("label").hidden = !facts.control
  if (byId("logger").children.length) return
  for (const logger of loggers) byId("logger").append(new Option(logger || "all", logger))
  byId("level").append(new Option("choose", ""))
  for (const level of levels) byId("level").append(new Option(level.toLowerCase(), level))
  byId("level").onchange = ({ target }) => {
    if (target.value) channel.push("level", { logger: byId("logger").value, level: target.value })
  }
}

// Keys and buttons

byId("search").oninput = ({ target }) => {
  tree.search(target.value.trim())
}
byId("pause").onclick = () => pause(!events.isPaused)

function pause(on) {
  events.pause(on)
  byId("pause").textContent = on ? "Continue" : "Stop"
  byId("pause").setAttribute("aria-pressed", String(on))
}

// The timeline

const past = new Past({
  byId,
  ask: (payload) => channel?.push("timeline", payload),
  theme: () => document.documentElement.dataset.theme,
  leave: () => showTimeline(false),
})

function showTimeline(on) {
  byId("now").hidden = on
  byId("past").hidden = !on
  byId("show-now").setAttribute("aria-selected", String(!on))
  byId("show-timeline").setAttribute("aria-selected", String(on))
  past.show(on)
}
byId("show-now").onclick = () => showTimeline(false)
byId("show-timeline").onclick = () => showTimeline(true)

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  const isTyping = event.target.matches("input, select, textarea")
  if (event.key === "Escape") {
    if (isTyping) event.target.blur()
    else if (panel.number !== null) closeProcess()
  } else if (!isTyping && event.key === "/") {
    event.preventDefault()
    byId("search").focus()
  } else if (!isTyping && event.key === "t") {
    showTimeline(byId("past").hidden)
  } else if (event.key === " " && !isTyping && !event.target.matches("button")) {
    event.preventDefault()
    if (byId("past").hidden) pause(!events.isPaused)
    else past.stop(!past.isStopped)
  }
})

const dark = matchMedia("(prefers-color-scheme: dark)")
const setTheme = (theme) => {
  document.documentElement.dataset.theme = theme
  past.viewer?.theme(theme)
}
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"))
byId("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark")
setTheme(dark.matches ? "dark" : "light")

await fetchTicket()
start()
showState()
