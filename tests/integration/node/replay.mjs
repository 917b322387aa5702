// Runs scripts against phoenix.js on a clock and a WebSocket of its own, and writes down what phoenix.js does.
//
//   node replay.mjs < SCRIPTS > TRACES
//
// Both are JSON. A script is a list of steps, a trace has one entry for each step. `Run` in
// tests/integration/test_client_beside_phoenix_js.py describes the steps, and runs the same scripts with our client.

import { readFileSync } from "node:fs"

/** Timers that run only when a script lets time pass. Of two for the same time, the older runs first. */
class Clock {
  now = 0
  #timers = new Map()
  #number = 0

  setTimeout = (callback, delay = 0) => {
    this.#timers.set(++this.#number, { callback, at: this.now + delay })
    return this.#number
  }

  clearTimeout = (number) => {
    this.#timers.delete(number)
  }

  advance(milliseconds) {
    const end = this.now + milliseconds
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end)
      if (due.length === 0) break
      due.sort(([a, one], [b, other]) => one.at - other.at || a - b)
      const [number, timer] = due[0]
      this.#timers.delete(number)
      this.now = Math.max(this.now, timer.at)
      timer.callback()
    }
    this.now = end
  }
}

let clock
globalThis.setTimeout = (callback, delay) => clock.setTimeout(callback, delay)
globalThis.clearTimeout = (number) => clock.clearTimeout(number)

const loaded = await import("phoenix")
const { Socket } = loaded.Socket ? loaded : loaded.default

const [CONNECTING, OPEN, , CLOSED] = [0, 1, 2, 3]

class Run {
  #sockets = []
  #channels = []
  #frames = []
  #answered = new Set()
  #entry = null

  constructor() {
    clock = new Clock()
    const run = this
    class Transport {
      readyState = CONNECTING
      bufferedAmount = 0
      constructor() {
        run.#sockets.push(this)
        run.#entry.opens += 1
      }
      send(text) {
        run.#sent(JSON.parse(text))
      }
      close(code = 1000, reason = "") {
        if (this.readyState === CLOSED) return
        this.readyState = CLOSED
        run.#entry.closes.push([code, reason])
        this.onclose?.({ code, reason })
      }
    }
    this.socket = new Socket("ws://server/socket", { transport: Transport })
  }

  get transport() {
    return this.#sockets.at(-1)
  }

  /** A frame without its refs: the number of the frame that joined, or null, and the rest. */
  #sent([joinRef, ref, topic, event, payload]) {
    const joined = this.#frames.findLastIndex((frame) => frame.event === "phx_join" && frame.ref === joinRef)
    const number = event === "phx_join" ? this.#frames.length : joined
    this.#frames.push({ joinRef, ref, topic, event })
    this.#entry.frames.push([joinRef ? number : null, topic, event, payload])
  }

  #hear(message) {
    if (this.transport?.readyState === OPEN) this.transport.onmessage({ data: JSON.stringify(message) })
  }

  steps = {
    connect: () => this.socket.connect(),
    open: () => {
      if (this.transport?.readyState !== CONNECTING) return
      this.transport.readyState = OPEN
      this.transport.onopen()
    },
    fail: () => {
      if (this.transport?.readyState !== CONNECTING) return
      this.transport.readyState = CLOSED
      this.transport.onerror(new Error("failed"))
      this.transport.onclose({ code: 1006, reason: "" })
    },
    lose: (code) => {
      if (this.transport?.readyState !== OPEN) return
      this.transport.readyState = CLOSED
      this.transport.onclose({ code, reason: "" })
    },
    advance: (milliseconds) => clock.advance(milliseconds),
    join: (topic) => {
      let joins = 0
      const channel = this.socket.channel(topic, () => ({ n: joins++ }))
      const number = this.#channels.push(channel) - 1
      channel.onMessage = (event, payload) => {
        if (!/^(phx_|chan_reply_)/.test(event ?? "phx_")) this.#entry.messages.push([number, event, payload])
        return payload
      }
      channel.join()
    },
    push: (number, event, id, timeout) => {
      const channel = this.#channels[number]
      if (!channel || channel.state === "closed") return
      const push = channel.push(event, { id }, timeout)
      for (const status of ["ok", "error", "timeout"]) {
        push.receive(status, () => this.#entry.results.push([id, status]))
      }
    },
    leave: (number) => {
      const channel = this.#channels[number]
      if (channel && channel.state !== "closed") channel.leave()
    },
    reply: (number, status, response) => {
      const waiting = [...this.#frames.keys()].filter((each) => !this.#answered.has(each))
      if (number < waiting.length) this.steps.answer(waiting.at(-1 - number), status, response)
    },
    answer: (number, status, response) => {
      this.#answered.add(number)
      const frame = this.#frames[number]
      if (frame) this.#hear([frame.joinRef, frame.ref, frame.topic, "phx_reply", { status, response }])
    },
    hear: (topic, event, payload, joined) => {
      const joinRef = joined === null ? null : (this.#frames[joined]?.joinRef ?? null)
      this.#hear([joinRef, event === "phx_error" || event === "phx_close" ? joinRef : null, topic, event, payload])
    },
  }

  play(script) {
    return script.map(([step, ...fields]) => {
      this.#entry = { frames: [], opens: 0, closes: [], messages: [], results: [] }
      this.steps[step](...fields)
      this.#entry.connection = this.socket.connectionState()
      this.#entry.channels = this.#channels.map((channel) => channel.state)
      return this.#entry
    })
  }
}

const scripts = JSON.parse(readFileSync(0, "utf8"))
process.stdout.write(JSON.stringify(scripts.map((script) => new Run().play(script))))
