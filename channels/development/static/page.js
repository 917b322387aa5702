// The development page: a catalogue of the endpoint's sockets and channels, and a console for them.

import { Client } from "./client.js"

const $ = (id) => document.getElementById(id)
const MOST_FRAMES = 500
const POLL = 1000

let endpoint = { sockets: [], observer: null }
let seenProcess = null
let seenCrashes = 0

// --- small helpers -------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value)
    else made.setAttribute(name, value)
  }
  made.append(...children.filter((child) => child !== null))
  return made
}

function mistake(words) {
  $("mistake").textContent = words
}

/** Return the value of a JSON field. If it is not JSON, show a message and return undefined. */
function parsed(id, name) {
  try {
    mistake("")
    return JSON.parse($(id).value || "{}")
  } catch (error) {
    mistake(`${name} is not JSON: ${error.message}`)
    $(id).focus()
    return undefined
  }
}

const json = (value) => JSON.stringify(value)

// --- the catalogue -------------------------------------------------------------------------------

function shapeOf(payload) {
  if (!payload) return "any payload"
  if (payload.fields.length === 0) return payload.type
  const fields = payload.fields.map((each) => `${each.name}${each.required ? "" : "?"}: ${each.type}`)
  return `{ ${fields.join(", ")} }`
}

function useTopic(socket, route) {
  $("socket").value = socket.path
  $("topic").value = route.pattern
  $("join-payload").value = json(route.join?.example ?? {})
  fillEvents()
  const field = $("topic")
  field.focus()
  if (route.pattern.endsWith("*")) {
    field.value = route.pattern.slice(0, -1)
    field.setSelectionRange(field.value.length, field.value.length)
  }
}

function useEvent(socket, route, event) {
  if (!matches(route.pattern, $("topic").value) || $("socket").value !== socket.path) useTopic(socket, route)
  $("event").value = event.event
  $("payload").value = json(event.payload?.example ?? {})
  showShape()
  $("payload").focus()
}

function eventItem(socket, route, event) {
  const name = `Use the event ${event.event} of ${route.pattern}`
  const use = () => useEvent(socket, route, event)
  return element(
    "li",
    {},
    element("button", { type: "button", class: "plain small", "aria-label": name, onclick: use }, event.event),
    element("span", { class: "type" }, shapeOf(event.payload)),
    event.about ? element("span", { class: "soft" }, event.about) : null,
  )
}

function routeBlock(socket, route) {
  const use = () => useTopic(socket, route)
  const name = `Use the topic ${route.pattern}`
  const block = element(
    "div",
    { class: "route" },
    element(
      "h4",
      {},
      element("button", { type: "button", class: "plain small", "aria-label": name, onclick: use }, route.pattern),
      route.name,
      route.durable ? element("span", { class: "tag" }, "durable") : null,
    ),
    route.about ? element("p", { class: "soft" }, route.about) : null,
    route.place ? element("p", { class: "place" }, route.place) : null,
    element("p", { class: "type" }, `join: ${shapeOf(route.join)}`),
  )
  if (route.events.length) {
    block.append(element("ul", { class: "events" }, ...route.events.map((each) => eventItem(socket, route, each))))
  } else {
    block.append(element("p", { class: "soft" }, "This channel handles no events from clients."))
  }
  if (route.intercepts.length) {
    block.append(element("p", { class: "soft" }, `This channel intercepts ${route.intercepts.join(", ")}.`))
  }
  return block
}

function socketBlock(socket) {
  const transports = [socket.websocket ? "WebSocket" : null, socket.longpoll ? "long polling" : null]
  return element(
    "article",
    { class: "socket", "aria-label": `Socket ${socket.path}` },
    element(
      "h3",
      {},
      element("code", {}, socket.path),
      socket.name,
      ...transports.filter(Boolean).map((each) => element("span", { class: "tag" }, each)),
    ),
    socket.about ? element("p", { class: "soft" }, socket.about) : null,
    socket.place ? element("p", { class: "place" }, socket.place) : null,
    ...socket.routes.map((route) => routeBlock(socket, route)),
  )
}

function showEndpoint() {
  const chosen = $("socket").value
  $("sockets").replaceChildren(...endpoint.sockets.map(socketBlock))
  $("nothing").hidden = endpoint.sockets.length > 0
  const usable = endpoint.sockets.filter((socket) => socket.websocket)
  $("socket").replaceChildren(...usable.map((socket) => element("option", { value: socket.path }, socket.path)))
  if (usable.some((socket) => socket.path === chosen)) $("socket").value = chosen
  $("observer").hidden = !endpoint.observer
  if (endpoint.observer) {
    const elsewhere = endpoint.observer.startsWith("http")
    const address = elsewhere ? endpoint.observer : new URL(`..${endpoint.observer}`, document.baseURI).pathname
    $("observer").href = address
  }
  const routes = endpoint.sockets.flatMap((socket) => socket.routes)
  $("patterns").replaceChildren(...routes.map((route) => element("option", { value: route.pattern })))
  if (!$("topic").value && routes.length) {
    $("topic").value = routes[0].pattern.replace("*", "")
    $("join-payload").value = json(routes[0].join?.example ?? {})
  }
  fillEvents()
}

function matches(pattern, topic) {
  return pattern.endsWith("*") ? topic.startsWith(pattern.slice(0, -1)) : topic === pattern
}

function currentRoute() {
  const socket = endpoint.sockets.find((each) => each.path === $("socket").value)
  return socket?.routes.find((route) => matches(route.pattern, $("topic").value))
}

function fillEvents() {
  const events = currentRoute()?.events ?? []
  $("events").replaceChildren(...events.map((each) => element("option", { value: each.event })))
  showShape()
}

function showShape() {
  const event = currentRoute()?.events.find((each) => each.event === $("event").value)
  $("shape").textContent = event ? shapeOf(event.payload) : ""
}

// --- the console ---------------------------------------------------------------------------------

const frames = $("frames")

function append(item) {
  const atEnd = frames.scrollHeight - frames.clientHeight - frames.scrollTop < 40
  frames.append(item)
  while (frames.childElementCount > MOST_FRAMES) frames.firstElementChild.remove()
  if (atEnd) frames.scrollTop = frames.scrollHeight
}

function note(words) {
  append(element("div", { class: "note" }, words))
}

const JOIN_CRASHED = "join crashed"

function showFrame(way, [, ref, topic, event, payload]) {
  const isBeat = topic === "phoenix"
  const isBad = event === "phx_error" || payload?.status === "error"
  const classes = [way, "new", isBeat ? "heartbeat" : "", isBad ? "bad" : ""].join(" ")
  const time = new Date().toLocaleTimeString([], { hour12: false })
  append(
    element(
      "div",
      { class: classes },
      element(
        "div",
        { class: "head" },
        element("span", { class: "way" }, way === "out" ? "→ sent" : "← received"),
        element("b", {}, event),
        topic,
        ref ? element("span", { class: "soft" }, `ref ${ref}`) : null,
        element("time", {}, time),
      ),
      json(payload),
    ),
  )
  if (event === "phx_error" || payload?.response?.reason === JOIN_CRASHED) showCrash(topic)
}

// --- crashes -------------------------------------------------------------------------------------

let crashes = []
let shownCrash = 0 // the number of the newest crash in the console

async function loadCrashes() {
  crashes = await (await fetch("crashes.json")).json()
  $("crashes").hidden = crashes.length === 0
  const open = new Set([...$("crash-list").querySelectorAll("[open]")].map((each) => each.dataset.number))
  $("crash-list").replaceChildren(...crashes.map((crash) => crashItem(crash, open.has(String(crash.number)))))
}

function crashItem({ number, owner, topic, summary, text, age }, isOpen) {
  const time = new Date(Date.now() - age * 1000).toLocaleTimeString([], { hour12: false })
  const details = element(
    "details",
    { "data-number": number },
    element("summary", {}, element("time", {}, time), ` ${owner} ${topic ?? ""} `, element("b", {}, summary)),
    element("pre", { tabindex: 0, role: "group", "aria-label": `Traceback of crash ${number}` }, text),
  )
  details.open = isOpen
  return element("li", {}, details)
}

/** Show the traceback of the newest crash of a topic in the console. */
async function showCrash(topic) {
  try {
    await loadCrashes()
  } catch {
    return // The server is reloading. `poll` says so.
  }
  const crash = crashes.find((each) => each.topic === topic && each.number > shownCrash)
  if (!crash) return
  shownCrash = crash.number
  append(element("div", { class: "bad" }, element("pre", {}, crash.text)))
}

const client = new Client({
  onFrame: showFrame,
  onState(state, words) {
    $("state").dataset.state = state
    $("state").textContent = words
    $("connect").textContent = client?.wanted ? "Disconnect" : "Connect"
  },
})

function connect() {
  const params = parsed("params", "Parameters")
  const socket = endpoint.sockets.find((each) => each.path === $("socket").value)
  if (params === undefined || !socket) return false
  // The URL is relative, because a proxy or another application can serve the endpoint below a prefix.
  const url = new URL(`..${socket.path}${socket.suffix}`, document.baseURI)
  url.protocol = url.protocol.replace("http", "ws")
  // As in phoenix.js, the token is a subprotocol and no parameter, so that it is not in the URL.
  const { authToken, ...others } = params
  for (const [name, value] of Object.entries(others)) {
    url.searchParams.set(name, typeof value === "string" ? value : json(value))
  }
  url.searchParams.set("vsn", "2.0.0")
  client.connect(url.href, authToken ? ["phoenix", `base64url.bearer.phx.${btoa(authToken).replace(/=/g, "")}`] : [])
  return true
}

$("connection").addEventListener("submit", (event) => {
  event.preventDefault()
  if (client.wanted) client.disconnect()
  else connect()
})

$("joining").addEventListener("submit", (event) => {
  event.preventDefault()
  const payload = parsed("join-payload", "The join payload")
  if (payload === undefined) return
  if (!client.wanted && !connect()) return
  client.join($("topic").value, payload)
})

$("leave").addEventListener("click", () => {
  mistake(client.leave($("topic").value) ? "" : `${$("topic").value} is not joined`)
})

function push() {
  const payload = parsed("payload", "The payload")
  if (payload === undefined) return
  const topic = $("topic").value
  if (!client.push(topic, $("event").value, payload)) mistake(`Join ${topic} first`)
}

$("pushing").addEventListener("submit", (event) => {
  event.preventDefault()
  push()
})
$("payload").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("pushing").requestSubmit()
})
$("clear").addEventListener("click", () => frames.replaceChildren())
$("heartbeats").addEventListener("change", () => frames.classList.toggle("all", $("heartbeats").checked))
$("topic").addEventListener("input", fillEvents)
$("socket").addEventListener("change", fillEvents)
$("event").addEventListener("input", () => {
  const event = currentRoute()?.events.find((each) => each.event === $("event").value)
  if (event) $("payload").value = json(event.payload?.example ?? {})
  showShape()
})

// --- the state of the server ---------------------------------------------------------------------

function showProblem(title, hint, text) {
  $("problem").hidden = false
  if ($("problem-text").textContent === text && $("problem-title").textContent === title) return
  $("problem-title").textContent = title
  $("problem-hint").textContent = hint
  $("problem-text").textContent = text
  $("problem-text").hidden = !text
}

async function poll() {
  try {
    const status = await (await fetch("status.json")).json()
    if (status.process !== seenProcess) {
      endpoint = await (await fetch("endpoint.json")).json()
      showEndpoint()
      if (seenProcess !== null) note("The server has reloaded the code.")
      seenProcess = status.process
      seenCrashes = shownCrash = 0
      await loadCrashes()
    }
    if (status.crashes !== seenCrashes) {
      seenCrashes = status.crashes
      await loadCrashes()
    }
    if (status.problem) {
      const hint = endpoint.sockets.length
        ? "The server continues with the last version that it could load. Correct the file and save it."
        : "Correct the file and save it."
      showProblem("The newest version cannot be loaded", hint, status.problem)
    } else {
      $("problem").hidden = true
    }
  } catch {
    showProblem("The server does not answer", "The page tries again every second.", "")
  }
  setTimeout(poll, POLL)
}

poll()
