// Everything on the page beside the map: the list of vehicles, the nodes, the log.

const $ = (id) => document.getElementById(id)
const rows = new Map()
const MAX_NOTES = 30

// --- colours -------------------------------------------------------------------------------------

const COLOURS = 8
const known = []

/** The colour of a node, which it keeps. */
export function colourOf(node) {
  if (!known.includes(node)) known.push(node)
  return `var(--node-${known.indexOf(node) % COLOURS})`
}

// --- the connection ------------------------------------------------------------------------------

export function showState(state, words) {
  document.body.dataset.state = state
  $("state").textContent = words
}

// --- nodes and totals ----------------------------------------------------------------------------

const many = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`

export function showNodes(nodes) {
  const names = [...nodes.keys()].sort()
  const items = names.map((name) => {
    const item = document.createElement("li")
    const dot = document.createElement("span")
    const { vehicles, viewers } = nodes.get(name)
    dot.className = "dot"
    dot.ariaHidden = "true"
    item.style.setProperty("--colour", colourOf(name))
    const title = document.createElement("b")
    title.textContent = name
    const watched = viewers ? `, ${many(viewers, "viewer")}` : ""
    item.append(dot, title, ` ${many(vehicles, "vehicle")}${watched}`)
    return item
  })
  $("nodes").replaceChildren(...items)
  const sum = (kind) => [...nodes.values()].reduce((total, node) => total + node[kind], 0)
  setText($("vehicle-count"), sum("vehicles"))
  setText($("viewer-count"), sum("viewers"))
  setText($("viewer-word"), sum("viewers") === 1 ? "viewer" : "viewers")
}

function setText(element, value) {
  if (element.textContent !== String(value)) element.textContent = value
}

// --- vehicles ------------------------------------------------------------------------------------

let city = { streets: {}, avenues: {} }

export function useCity(theCity) {
  city = theCity
}

/** Where a vehicle is, in words. */
function placeOf({ x, y }) {
  if (x === undefined) return "no report yet"
  const nearest = (lines, at) =>
    Object.entries(lines).reduce((best, one) => Math.abs(one[1] - at) < Math.abs(best[1] - at) ? one : best)
  const [street, streetX] = nearest(city.streets, x)
  const [avenue, avenueY] = nearest(city.avenues, y)
  const [on, by] = Math.abs(streetX - x) <= Math.abs(avenueY - y) ? [street, avenue] : [avenue, street]
  return `${on} near ${by}`
}

/** Show a vehicle, or what has changed about it. Rows are in the order of their names. */
export function show(vehicle) {
  let row = rows.get(vehicle.name)
  if (!row) {
    row = $("vehicle").content.firstElementChild.cloneNode(true)
    row.dataset.name = vehicle.name
    row.querySelector("b").textContent = vehicle.name
    row.querySelector("button").ariaLabel = `Crash the channel of ${vehicle.name}`
    const order = new Intl.Collator("en", { numeric: true })
    const next = [...$("vehicles").children].find((other) => order.compare(other.dataset.name, vehicle.name) > 0)
    $("vehicles").insertBefore(row, next ?? null)
    rows.set(vehicle.name, row)
  }
  row.dataset.node = vehicle.node
  row.style.setProperty("--colour", vehicle.colour)
  setText(row.querySelector(".node"), `on ${vehicle.node}`)
  refresh([vehicle])
  $("nobody").hidden = true
}

export function remove(name) {
  rows.get(name)?.remove()
  rows.delete(name)
  $("nobody").hidden = rows.size > 0
}

/** Write down where vehicles are now. */
export function refresh(vehicles) {
  for (const vehicle of vehicles) {
    const row = rows.get(vehicle.name)
    setText(row.querySelector(".place"), vehicle.silent ? "no reports now" : placeOf(vehicle))
    setText(row.querySelector(".process"), `process ${vehicle.process}, ${many(vehicle.reports, "report")}`)
    row.classList.toggle("silent", vehicle.silent === true)
  }
}

export function onCrash(callback) {
  $("vehicles").addEventListener("click", ({ target }) => {
    const button = target.closest("button")
    if (button) callback(button.closest("li").dataset.name)
  })
}

/** Call with the name of the vehicle that is pointed at or has the focus, or with none. */
export function onPoint(callback) {
  const on = ({ target }) => callback(target.closest("li")?.dataset.name)
  const off = () => callback()
  $("vehicles").addEventListener("pointerover", on)
  $("vehicles").addEventListener("focusin", on)
  $("vehicles").addEventListener("pointerleave", off)
  $("vehicles").addEventListener("focusout", off)
}

// --- what happened -------------------------------------------------------------------------------

export function note(words) {
  const item = document.createElement("div")
  const time = document.createElement("time")
  const now = new Date()
  time.dateTime = now.toISOString()
  time.textContent = now.toLocaleTimeString([], { timeStyle: "medium" })
  item.append(time, ` ${words}`)
  $("log").prepend(item)
  while ($("log").children.length > MAX_NOTES) $("log").lastElementChild.remove()
  $("quiet").hidden = true
}
