// phx-live-state: a state that the server owns, and events of the page

import assert from "node:assert/strict"
import { Arrivals, library, restart, run, url, WebSocket } from "./steps.mjs"

const { LiveState } = await import(library)

const states = new Arrivals()
const patches = new Arrivals()
const errors = new Arrivals()
const live = new LiveState({
  url: `${url}/socket`,
  topic: "state:list",
  socketOptions: { transport: WebSocket },
})
live.addEventListener("livestate-change", ({ detail }) => states.put(detail))
live.addEventListener("livestate-patch", ({ detail }) => patches.put(detail.version))
live.addEventListener("livestate-error", ({ detail }) => errors.put(detail))

const add = (event, item) => live.dispatchEvent(new CustomEvent(event, { detail: { item } }))

await run({
  async join() {
    live.connect()
    assert.deepEqual(await states.next(), { state: { items: [] }, version: 0 })
  },

  async patch() {
    add("add", "milk")
    assert.deepEqual(await states.next(), { state: { items: ["milk"] }, version: 1 })
    assert.deepEqual(await patches.next(), 1)
  },

  async refresh() {
    // The client has missed version 2, so it asks for the whole state.
    add("skip", "bread")
    assert.deepEqual(await states.next(), { state: { items: ["milk", "bread"] }, version: 3 })
    assert.deepEqual(await patches.next(), 3)
  },

  async crash() {
    live.dispatchEvent(new CustomEvent("boom", { detail: {} }))
    assert.equal((await errors.next()).type, "channel error")
    assert.deepEqual(await states.next(), { state: { items: [] }, version: 0 })
  },

  async restart() {
    add("add", "milk")
    await states.next()
    restart()
    assert.deepEqual(await states.next(), { state: { items: [] }, version: 0 })
    add("add", "tea")
    assert.deepEqual(await states.next(), { state: { items: ["tea"] }, version: 1 })
  },
})
