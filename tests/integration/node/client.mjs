// A phoenix.js client that obeys lines on standard input, and reports its events as lines on
// standard output. Every line is a JSON object. The end of the input ends it.
//
//   node client.mjs PACKAGE URL [OPTIONS FOR THE SOCKET, AS JSON]
//
// Besides those of phoenix.js there are these options: `transport` is "websocket" or "longpoll", the latter of another
// package if `longPollOf` names one; `xhr` gives the client an XMLHttpRequest, which it prefers to fetch; `states`
// reports the states of the connections and channels; `reconnectAfter` and `rejoinAfter` are tables of milliseconds, and
// `paramsOfConnects` is a table of params. The last entry of a table is for all later attempts.

import { createInterface } from "node:readline"
import WebSocket from "ws"
import { durable as durableChannel, pushUntilAnswered } from "../../../channels/durable/static/durable.mjs"
import { XMLHttpRequest } from "./xhr.mjs"

const [, , library, url, text = "{}"] = process.argv
const {
  transport = "websocket",
  longPollOf = library,
  xhr = false,
  states = false,
  reconnectAfter,
  rejoinAfter,
  paramsOfConnects,
  ...options
} = JSON.parse(text)

const lookup = (table) => (tries) => table[tries - 1] ?? table.at(-1)
if (reconnectAfter) options.reconnectAfterMs = lookup(reconnectAfter)
if (rejoinAfter) options.rejoinAfterMs = lookup(rejoinAfter)

let connects = 0
if (paramsOfConnects) options.params = () => paramsOfConnects[connects++] ?? paramsOfConnects.at(-1)

if (xhr) globalThis.XMLHttpRequest = XMLHttpRequest
// Earlier clients look for everything in what browsers call self, and the earliest in window.
if (xhr) globalThis.self = globalThis
if (/1\.[23]$/.test(library)) globalThis.window = globalThis

/** What a package exports, whichever way it does. */
const load = async (name) => {
  const loaded = await import(name)
  return loaded.Socket ? loaded : loaded.default
}

const { Socket, Presence } = await load(library)
const { LongPoll } = await load(longPollOf)

const tell = (kind, fields = {}) => {
  process.stdout.write(`${JSON.stringify({ kind, at: performance.now(), ...fields })}\n`)
}

/** What can be written as JSON: bytes as a list of numbers. */
const shown = (payload) => (payload instanceof ArrayBuffer ? { bytes: [...new Uint8Array(payload)] } : payload)

/** Tell of every answer to a push; phoenix.js calls these again when it sends a join again. */
const tellAnswers = (push, kind, fields) => {
  for (const status of ["ok", "error", "timeout"]) {
    push.receive(status, (response) => tell(kind, { ...fields, status, response: shown(response) }))
  }
}

/** Tell of everybody who comes and goes in a topic, as phoenix.js does. */
const watch = (channel, topic) => {
  const presence = new Presence(channel)
  const refs = (entry) => (entry ? entry.metas.map((meta) => meta.phx_ref) : [])
  presence.onJoin((key, before, joined) => tell("present", { topic, key, refs: refs(joined), before: refs(before) }))
  presence.onLeave((key, rest, left) => tell("absent", { topic, key, refs: refs(left), rest: refs(rest) }))
  presence.onSync(() => tell("sync", { topic }))
  presences.set(topic, presence)
}

/** A WebSocket that reports its states. As in a browser, an exception in a listener does not end the connection. */
class WatchedWebSocket extends WebSocket {
  #state = null

  constructor(...args) {
    super(...args)
    this.#enter("connecting")
    this.addEventListener("open", () => this.#enter("open"))
    this.addEventListener("close", () => this.#enter("closed"))
  }

  #enter(state) {
    if (state !== this.#state) tell("connection", { state })
    this.#state = state
  }

  close(...args) {
    // One that closes is nobody's connection any more.
    this.#enter("closed")
    super.close(...args)
  }

  set onmessage(listener) {
    super.onmessage = (event) => {
      try {
        listener(event)
      } catch (error) {
        tell("exception", { message: String(error) })
      }
    }
  }
}

/** Tell of every state that a channel enters. */
const watchState = (channel, topic) => {
  let current = channel.state
  Object.defineProperty(channel, "state", {
    get: () => current,
    set: (state) => {
      if (state !== current) tell("state", { topic, state })
      current = state
    },
  })
}

const overWebSocket = states ? WatchedWebSocket : WebSocket
const socket = new Socket(url, { transport: transport === "longpoll" ? LongPoll : overWebSocket, ...options })
const channels = new Map()
const presences = new Map()

socket.onOpen(() => tell("open"))
socket.onClose((event) => tell("close", { code: event?.code ?? null }))

socket.onMessage(({ topic, ref, payload }) => {
  if (topic === "phoenix" && ref) tell("heartbeat", { status: payload.status })
})

const commands = {
  connect() {
    socket.connect()
  },
  cut() {
    // As a network that has gone: phoenix.js reconnects.
    socket.conn.close()
  },
  disconnect() {
    socket.disconnect(() => tell("disconnected"))
  },
  join({ topic, payload, presence = false, durable = false, counted = false }) {
    let joins = 0
    const params = counted ? () => ({ ...payload, n: joins++ }) : payload
    const channel = durable ? durableChannel(socket, topic, payload) : socket.channel(topic, params)
    channels.set(topic, channel)
    if (states) watchState(channel, topic)
    if (presence) watch(channel, topic)
    const before = channel.onMessage
    channel.onMessage = (event, sent, ...refs) => {
      const received = before.call(channel, event, sent, ...refs)
      if (!/^(phx_reply$|chan_reply_)/.test(event)) tell("message", { topic, event, payload: shown(received) })
      return received
    }
    tellAnswers(channel.join(), "join", { topic })
  },
  push({ id, topic, event, payload, bytes, timeout }) {
    const data = bytes ? new Uint8Array(bytes).buffer : payload
    tellAnswers(channels.get(topic).push(event, data, timeout), "reply", { id })
  },
  async "push until answered"({ id, topic, event, payload, timeout }) {
    const answered = (status) => (response) => tell("reply", { id, status, response })
    await pushUntilAnswered(channels.get(topic), event, payload, timeout).then(answered("ok"), answered("error"))
  },
  leave({ topic }) {
    tellAnswers(channels.get(topic).leave(), "leave", { topic })
  },
  list({ id, topic }) {
    tell("list", { id, presences: Object.fromEntries(presences.get(topic).list((key, entry) => [key, entry])) })
  },
  heartbeat() {
    socket.sendHeartbeat()
  },
  ping() {
    if (!socket.ping((milliseconds) => tell("pong", { milliseconds }))) tell("not open")
  },
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { command, ...fields } = JSON.parse(line)
    commands[command](fields)
  })
  .on("close", () => process.exit(0))
