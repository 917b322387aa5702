// The page: everything that touches the document, and nothing that talks to the server.

import { STEPS } from "./recovery.js"

const $ = (id) => document.getElementById(id)
const transcript = $("transcript")
const nameField = $("name")
const bodyField = $("body")

// --- names -------------------------------------------------------------------------------------

const pick = (words) => words[Math.floor(Math.random() * words.length)]
const inventName = () =>
  `${pick(["Amber", "Brave", "Calm", "Dusky", "Early", "Merry", "Quiet", "Swift"])} ` +
  pick(["Ash", "Finch", "Heron", "Ibis", "Linden", "Otter", "Rowan", "Wren"])

nameField.value = sessionStorage.getItem("name") ?? inventName()

/** The name in the name field, or the last one that was not empty. */
export function name() {
  return sessionStorage.getItem("name") ?? nameField.value
}

export function onRename(callback) {
  const keep = () => {
    nameField.value = nameField.value.trim() || name()
    sessionStorage.setItem("name", nameField.value)
    $("speaker").textContent = nameField.value
  }
  keep()
  nameField.addEventListener("change", () => {
    keep()
    callback(nameField.value)
  })
}

// --- what the page says about the connection -----------------------------------------------------

export function showTopic(topic) {
  $("topic").textContent = topic
}

export function showState(state, words) {
  if (document.body.dataset.state === "refused") return // this tab no longer takes part
  document.body.dataset.state = state
  $("state").textContent = words
  $("crash").disabled = state !== "joined"
  $("composer").inert = state === "refused"
  $("refused").hidden = state !== "refused"
}

export function showProcess(number) {
  $("pid").textContent = `process ${number}`
  showCount(0)
}

/** The process is gone: for certain if it crashed, and as good as gone with the connection. */
export function showNoProcess() {
  if ($("count").value === "–") return
  $("pid").textContent += " is gone"
  $("count").textContent = "–"
}

export function showCount(count) {
  $("count").textContent = count
}

/** Press once; after the press is drawn, so that drawing does not count as the server's time. */
export function onCrash(callback) {
  $("crash").addEventListener("click", () => {
    $("crash").disabled = true
    requestAnimationFrame(() => setTimeout(callback))
  })
}

// --- messages ------------------------------------------------------------------------------------

const waiting = []

export function onSend(callback) {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault()
    const body = bodyField.value.trim()
    bodyField.value = ""
    bodyField.focus()
    if (body) callback(body)
  })
}

function append(item) {
  const room = transcript.scrollHeight - transcript.clientHeight
  const atEnd = room - transcript.scrollTop < 40
  transcript.append(item)
  if (atEnd) transcript.scrollTop = transcript.scrollHeight
}

function hueOf(text) {
  return [...text].reduce((hash, letter) => (hash * 31 + letter.codePointAt(0)) % 360, 7)
}

function messageItem({ name, body }, mine) {
  const item = $("message").content.firstElementChild.cloneNode(true)
  const words = name.split(/\s+/)
  const now = new Date()
  item.classList.toggle("mine", mine)
  item.style.setProperty("--hue", hueOf(name))
  item.querySelector(".face").textContent = words.map((word) => [...word][0]).slice(0, 2).join("")
  item.querySelector("b").textContent = name
  item.querySelector(".body").textContent = body
  item.querySelector("time").dateTime = now.toISOString()
  item.querySelector("time").textContent = now.toLocaleTimeString([], { timeStyle: "short" })
  return item
}

/** Append what somebody said; consecutive messages of one speaker share a heading. */
export function addMessage(message, mine) {
  if (mine) waiting.find((one) => one.body === message.body)?.done()
  const item = messageItem(message, mine)
  const last = transcript.lastElementChild
  const speaker = `.message:not(.waiting)${mine ? ".mine" : ":not(.mine)"}`
  if (last?.matches(speaker) && last.dataset.name === message.name) item.classList.add("again")
  item.dataset.name = message.name
  append(item)
}

/** Show a message that the server has not confirmed, unless it does so in the blink of an eye. */
export function addWaiting(body) {
  const item = messageItem({ name: name(), body }, true)
  item.classList.add("waiting")
  item.querySelector("time").textContent = "waiting for the channel"
  const timer = setTimeout(() => append(item), 250)
  const entry = {
    body,
    done() {
      clearTimeout(timer)
      item.remove()
      waiting.splice(waiting.indexOf(entry), 1)
    },
    lost() {
      if (!waiting.includes(entry)) return
      item.classList.add("lost")
      item.querySelector("time").textContent = "not delivered"
      waiting.splice(waiting.indexOf(entry), 1)
    },
  }
  waiting.push(entry)
  return entry
}

function addNote(words) {
  const item = document.createElement("div")
  item.className = "note"
  item.textContent = words
  append(item)
}

// --- the recovery strip --------------------------------------------------------------------------

const LABELS = {
  crash: { crash: "crash", error: "phx_error", join: "phx_join", joined: "back" },
  away: { lost: "connection lost", open: "connected", join: "phx_join", joined: "back" },
}

const UNDER_WAY = {
  crash: "The channel is gone. phoenix.js waits, and then joins again.",
  away: "The server does not answer. phoenix.js tries again, with growing waits.",
}

const NO_OTHER = "A second tab shows that its own channel goes on."

/** Milliseconds as a person reads them. */
function span(ms) {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en")} ms`
}

/** What is written over the line that leads to a step; `ms` is missing while it is not reached. */
function gapWords(trouble, step, ms) {
  const took = ms === undefined ? "" : span(ms)
  if (step === "open") {
    const tries = `${trouble.tries} failed ${trouble.tries === 1 ? "try" : "tries"}`
    return took ? `${took}, ${tries}` : tries
  }
  if (step === "join" && trouble.kind === "crash") return `phoenix.js waits ${took}`
  return took
}

function stepItem(trouble, step, before) {
  const item = document.createElement("li")
  const gap = document.createElement("span")
  const label = document.createElement("span")
  const { [step]: at, [before]: from } = trouble.at
  item.dataset.step = step
  if (at !== undefined) item.className = "reached"
  else if (from !== undefined) item.className = "next"
  gap.className = "gap"
  if (from !== undefined) gap.textContent = gapWords(trouble, step, at && at - from)
  label.className = "label"
  label.textContent = LABELS[trouble.kind][step]
  item.append(gap, label)
  return item
}

function verdict({ kind, at, process }) {
  const times = STEPS[kind].map((step) => at[step])
  const [first, second, third] = [1, 2, 3].map((n) => span(times[n] - times[n - 1]))
  return kind === "crash"
    ? `${first} until the crash was known, ${second} wait of phoenix.js, ${third} to join process ${process}.`
    : `${first} without a server, ${third} to join process ${process}.`
}

/** Draw the trouble that `Recovery` tells of; once it is over, say so in words. */
export function showRecovery(trouble) {
  const steps = STEPS[trouble.kind]
  $("strip").dataset.kind = trouble.kind
  $("strip").replaceChildren(...steps.map((step, n) => stepItem(trouble, step, steps[n - 1])))
  if (!trouble.over) {
    $("verdict").textContent = UNDER_WAY[trouble.kind]
    return
  }
  const total = document.createElement("strong")
  total.textContent = `Back after ${span(trouble.at.joined - trouble.at[steps[0]])}`
  $("verdict").replaceChildren(total, `: ${verdict(trouble)}`)
  const what = trouble.kind === "crash" ? "Your channel crashed" : "The server was away"
  addNote(`${what}. ${total.textContent}.`)
  $("process").classList.remove("reborn")
  void $("process").offsetWidth // lets the same animation run again
  $("process").classList.add("reborn")
}

/** Say what this tab knows about a channel of another tab since the crash; null if it knows of none. */
export function showOther(other) {
  $("other").classList.toggle("known", Boolean(other))
  if (!other) {
    $("other").textContent = NO_OTHER
    return
  }
  const { process, name, heard } = other
  const messages = `${heard} message${heard === 1 ? "" : "s"}`
  $("other").textContent = heard
    ? `The channel of ${name} went on: still process ${process}, ${messages} since your crash.`
    : `The channel of ${name} was process ${process}. Its next message shows whether it still is.`
}

// Before anything has gone wrong the strip shows what will happen.
$("strip").dataset.kind = "crash"
$("strip").append(...STEPS.crash.map((step) => stepItem({ kind: "crash", at: {} }, step)))
showOther(null)
$("verdict").textContent = "Nothing has gone wrong yet. Crash your channel and watch this line."
