// phoenix.js, and packages with the same interface

import assert from "node:assert/strict"
import { answer, Arrivals, library, restart, run, sleep, url, WebSocket } from "./steps.mjs"

// The older packages look for the WebSocket of a browser.
globalThis.window = globalThis
globalThis.WebSocket ??= WebSocket

const loaded = await import(library)
const { Presence, Socket } = loaded.Socket ? loaded : loaded.default

/** A client in a room. Its lists grow with each join and each message. */
class Client {
  joins = new Arrivals()
  messages = new Arrivals()
  opened = new Arrivals()
  closed = new Arrivals()

  constructor(path = "/socket", options = {}) {
    // The package phoenix-channels brings a WebSocket of its own.
    this.socket = new Socket(url + path, library === "phoenix-channels" ? options : { transport: WebSocket, ...options })
    this.socket.onOpen(this.opened.put)
    this.socket.onClose(this.closed.put)
    this.socket.connect()
  }

  join(topic = "room:lobby", payload = {}) {
    this.channel = this.socket.channel(topic, payload)
    this.channel.on("new_msg", this.messages.put)
    this.channel.on("pushed", this.messages.put)
    this.channel.join().receive("ok", this.joins.put)
    return this.joins.next()
  }

  async echo(payload) {
    return answer(this.channel.push("echo", payload))
  }
}

const bytes = new Uint8Array([0, 1, 254, 255]).buffer
const ann = new Client()
const bob = new Client()

await run({
  async connect() {
    await Promise.all([ann.opened.next(), bob.opened.next()])
  },

  async join() {
    const greeting = new Client()
    assert.deepEqual(await greeting.join("room:withreply", { name: "ann" }), { hello: "world", params: { name: "ann" } })
    assert.deepEqual(await ann.join(), {})
    await bob.join()
  },

  async "refused join"() {
    const channel = ann.socket.channel("room:deny", {})
    assert.deepEqual(await answer(channel.join(), "error"), { reason: "unauthorized" })
    await channel.leave()
  },

  async reply() {
    assert.deepEqual(await ann.echo({ text: "grüße" }), { text: "grüße" })
    assert.deepEqual(await answer(ann.channel.push("fail", { n: 1 }), "error"), { n: 1 })
  },

  async broadcast() {
    ann.channel.push("push", { to: "ann" })
    assert.deepEqual(await ann.messages.next(), { to: "ann" })
    ann.channel.push("new_msg", { n: 1 })
    assert.deepEqual([await ann.messages.next(), await bob.messages.next()], [{ n: 1 }, { n: 1 }])
  },

  async binary() {
    assert.deepEqual(await ann.echo(bytes), bytes)
    ann.channel.push("new_msg", bytes)
    assert.deepEqual([await ann.messages.next(), await bob.messages.next()], [bytes, bytes])
  },

  async presence() {
    const carol = new Client()
    const changes = new Arrivals()
    let present = {}
    const change = (state) => changes.put(Presence.list((present = state), (key) => key).sort())
    const channel = ann.socket.channel("presence:lobby", { user: "ann" })
    channel.on("presence_state", (state) => change(Presence.syncState(present, state)))
    channel.on("presence_diff", (diff) => change(Presence.syncDiff(present, diff)))
    const until = async (...expected) => {
      while ((await changes.next()).join() !== expected.join());
    }
    channel.join()
    await until("ann")
    await carol.join("presence:lobby", { user: "carol" })
    await until("ann", "carol")
    carol.channel.leave()
    await until("ann")
  },

  async leave() {
    const carol = new Client()
    const closes = new Arrivals()
    const late = new Arrivals()
    carol.socket.onMessage(({ topic, event }) => {
      if (event === "phx_close") closes.put(topic)
      if (event === "new_msg") late.put(topic)
    })
    await carol.join()
    // phoenix.js itself answers a leave with ok. The server confirms it with phx_close.
    carol.channel.leave()
    assert.equal(await closes.next(), "room:lobby")
    ann.channel.push("new_msg", { n: 2 })
    assert.deepEqual([await ann.messages.next(), await bob.messages.next()], [{ n: 2 }, { n: 2 }])
    // A message to the channel that was left would arrive before this answer.
    await carol.join("room:other")
    await carol.echo({})
    assert.deepEqual(late.values, [])
  },

  async crash() {
    const crashed = new Promise((resolve) => ann.channel.onError(resolve))
    ann.channel.push("boom", {})
    await crashed
    await ann.joins.next()
    assert.deepEqual(await ann.echo({ n: 3 }), { n: 3 })
    // The connection and the other client stayed.
    assert.deepEqual([ann.closed.values, bob.joins.values], [[], []])
  },

  async restart() {
    restart()
    await Promise.all([ann.closed.next(), bob.closed.next()])
    await Promise.all([ann.joins.next(), bob.joins.next()])
    bob.channel.push("new_msg", { n: 4 })
    assert.deepEqual([await ann.messages.next(), await bob.messages.next()], [{ n: 4 }, { n: 4 }])
  },

  async heartbeat() {
    // The server closes this connection after three seconds of silence.
    const beating = new Client("/beating", { heartbeatIntervalMs: 1000 })
    await beating.join()
    await sleep(5)
    await beating.echo({})
    assert.deepEqual(beating.closed.values, [])
  },

  async disconnect() {
    await new Promise((resolve) => ann.socket.disconnect(resolve))
    await new Promise((resolve) => bob.socket.disconnect(resolve))
  },
})
