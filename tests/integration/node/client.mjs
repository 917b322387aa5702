// A phoenix.js client that does what it is told by lines on standard input, and tells what it
// sees by lines on standard output; every line is a JSON object. The end of the input ends it.
//
//   node client.mjs PACKAGE URL [OPTIONS FOR THE SOCKET, AS JSON]

import { createInterface } from "node:readline"
import WebSocket from "ws"

const [, , library, url, options = "{}"] = process.argv
const { Socket } = await import(library)

const tell = (kind, fields = {}) => {
  process.stdout.write(`${JSON.stringify({ kind, at: performance.now(), ...fields })}\n`)
}

/** Tell of every answer to a push; phoenix.js calls these again when it sends a join again. */
const tellAnswers = (push, kind, fields) => {
  for (const status of ["ok", "error", "timeout"]) {
    push.receive(status, (response) => tell(kind, { ...fields, status, response }))
  }
}

const socket = new Socket(url, { transport: WebSocket, ...JSON.parse(options) })
const channels = new Map()

socket.onOpen(() => tell("open"))
socket.onClose(({ code }) => tell("close", { code }))

const commands = {
  connect() {
    socket.connect()
  },
  disconnect() {
    socket.disconnect(() => tell("disconnected"))
  },
  join({ topic, payload }) {
    const channel = socket.channel(topic, payload)
    channels.set(topic, channel)
    channel.onMessage = (event, received) => {
      if (!/^(phx_reply$|chan_reply_)/.test(event)) tell("message", { topic, event, payload: received })
      return received
    }
    tellAnswers(channel.join(), "join", { topic })
  },
  push({ id, topic, event, payload }) {
    tellAnswers(channels.get(topic).push(event, payload), "reply", { id })
  },
  leave({ topic }) {
    tellAnswers(channels.get(topic).leave(), "leave", { topic })
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
