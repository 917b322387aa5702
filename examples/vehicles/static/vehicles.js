// The client of the page: phoenix.js on one side, the map and the list on the other.

import { Presence, Socket } from "phoenix"
import { CityMap } from "./map.js"
import * as list from "./list.js"

const socket = new Socket("/socket")
const channel = socket.channel("map")
const presence = new Presence(channel)
const map = new CityMap(document.getElementById("map"))

/** Every vehicle that is present, by name: its node, its process, and its last report. */
const vehicles = new Map()

channel.on("position", (report) => {
  const vehicle = vehicles.get(report.name)
  if (!vehicle) return // it is not present any more, or not yet
  Object.assign(vehicle, report, { heardAt: performance.now() })
  map.move(vehicle)
})

let synced = false

presence.onSync(() => {
  const here = new Map()
  const nodes = new Map()
  const countAt = (node, kind) => {
    if (!nodes.has(node)) nodes.set(node, { vehicles: 0, viewers: 0 })
    nodes.get(node)[kind] += 1
  }
  for (const [key, { metas }] of Object.entries(presence.state)) {
    if (key === "viewers") {
      metas.forEach(({ node }) => countAt(node, "viewers"))
    } else {
      here.set(key.replace("vehicle:", ""), metas.at(-1))
      countAt(metas.at(-1).node, "vehicles")
    }
  }
  list.showNodes(nodes)
  for (const [name, { node, process }] of here) seen(name, node, process)
  for (const name of [...vehicles.keys()].filter((name) => !here.has(name))) gone(name)
  synced = true
})

function seen(name, node, process) {
  const known = vehicles.get(name)
  if (known?.node === node && known.process === process) return
  const vehicle = { ...known, name, node, process, reports: 0, colour: list.colourOf(node) }
  vehicles.set(name, vehicle)
  list.show(vehicle)
  map.paint(vehicle)
  if (known?.heardAt !== undefined) {
    const away = ((performance.now() - known.heardAt) / 1000).toFixed(1)
    const before = known.node === node ? known.process : `${known.process} on ${known.node}`
    list.note(`${name} has process ${process} in place of ${before}, ${away} s after its last report.`)
  } else if (!known && synced) {
    list.note(`${name} is here, on ${node}.`)
  }
}

function gone(name) {
  vehicles.delete(name)
  map.remove(name)
  list.remove(name)
  list.note(`${name} has left.`)
}

// --- the connection --------------------------------------------------------------------------------

channel
  .join()
  .receive("ok", ({ node, city }) => {
    map.draw(city)
    list.useCity(city)
    list.showState("joined", `Connected to ${node}`)
  })
  .receive("error", ({ reason }) => list.showState("away", `Not joined: ${reason}`))
channel.onError(() => list.showState("away", "Rejoining"))
socket.onError(() => list.showState("away", "No server, trying again"))

list.onCrash((name) => channel.push("crash", { name }))
list.onPoint((name) => map.point(name))

// --- time ------------------------------------------------------------------------------------------

const TICK = 250 // ms
const SILENT_AFTER = 600 // ms
let ticks = 0

// Twice in a row, because after a stall of the page this runs before the reports that have come meanwhile.
setInterval(() => {
  const now = performance.now()
  for (const vehicle of vehicles.values()) {
    const late = vehicle.heardAt !== undefined && now - vehicle.heardAt > SILENT_AFTER
    vehicle.silent = late && vehicle.late
    vehicle.late = late
    map.dim(vehicle)
  }
  ticks += 1
  // The words change less often than the map, so that they can be read.
  if (ticks % 4 === 0) list.refresh(vehicles.values())
}, TICK)

socket.connect()
