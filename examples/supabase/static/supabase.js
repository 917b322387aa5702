// The page: one channel of supabase's client with broadcasts, presences and changes of a table.

import { RealtimeClient } from "@supabase/realtime-js"
import { showState } from "/style/state.js"

const $ = (id) => document.getElementById(id)
const name = new URLSearchParams(location.search).get("name") ?? `Guest ${Math.floor(Math.random() * 1000)}`
const keys = await (await fetch(`/keys?name=${encodeURIComponent(name)}`)).json()
$("me").textContent = name

const client = new RealtimeClient(`${location.origin}/realtime/v1`, { params: { apikey: keys.apikey } })
await client.setAuth(keys.token)

const channel = client.channel("lobby", {
  config: {
    private: true,
    broadcast: { ack: true, self: true, replay: { since: Date.now() - 3_600_000, limit: 25 } },
    presence: { key: name },
  },
})

// --- cursors -------------------------------------------------------------------------------------

const cursors = new Map()

channel.on("broadcast", { event: "cursor" }, ({ payload }) => {
  if (payload.name === name) return
  const cursor = cursors.get(payload.name) ?? document.createElement("span")
  cursors.set(payload.name, cursor)
  cursor.className = "cursor"
  cursor.textContent = payload.name
  cursor.style.left = `${payload.x * 100}%`
  cursor.style.top = `${payload.y * 100}%`
  $("field").append(cursor)
})

let last = 0
$("field").addEventListener("pointermove", ({ clientX, clientY, currentTarget }) => {
  // Ten positions a second are enough, because the style lets a cursor glide between them.
  if (performance.now() - last < 100) return
  last = performance.now()
  const { left, top, width, height } = currentTarget.getBoundingClientRect()
  const payload = { name, x: (clientX - left) / width, y: (clientY - top) / height }
  channel.send({ type: "broadcast", event: "cursor", payload })
})

// --- chat ----------------------------------------------------------------------------------------

const seen = new Set()

channel.on("broadcast", { event: "chat" }, ({ payload, meta }) => {
  // After a rejoin, the server replays messages that the page may have.
  if (seen.has(meta.id)) return
  seen.add(meta.id)
  const item = document.createElement("li")
  item.textContent = `${payload.name}: ${payload.body}`
  $("transcript").append(item)
  item.scrollIntoView({ block: "nearest" })
})

$("composer").addEventListener("submit", async (event) => {
  event.preventDefault()
  const payload = { name, body: $("body").value }
  const result = await channel.send({ type: "broadcast", event: "chat", payload, persist: true })
  if (result === "ok") $("body").value = ""
})

// --- presences -----------------------------------------------------------------------------------

const items = (texts) =>
  texts.map((text) => {
    const item = document.createElement("li")
    item.textContent = text
    return item
  })

channel.on("presence", { event: "sync" }, () => {
  const people = Object.keys(channel.presenceState()).sort()
  $("people").replaceChildren(...items(people))
  for (const [other, cursor] of cursors) if (!people.includes(other)) cursor.remove()
})

// --- the table -----------------------------------------------------------------------------------

const notices = new Map()

channel.on("postgres_changes", { event: "*", schema: "public", table: "notices" }, (change) => {
  if (change.eventType === "DELETE") notices.delete(change.old.id)
  else notices.set(change.new.id, change.new.text)
  $("notices").replaceChildren(...items([...notices.values()]))
})

// --- the state -----------------------------------------------------------------------------------

channel.subscribe(async (status, error) => {
  if (status === "SUBSCRIBED") {
    showState("joined", "Connected")
    await channel.track({ since: new Date().toISOString() })
  } else {
    showState("away", error ? `${status}: ${error.message}` : status)
  }
})
