// @supabase/realtime-js as published, at its default settings. It gets commands, one in each line, and prints events.

import { createInterface } from "node:readline"
import WebSocket from "ws"
import { RealtimeClient } from "@supabase/realtime-js"

const [, , url, apikey] = process.argv
const tell = (kind, fields) => console.log(JSON.stringify({ kind, ...fields }))
const shown = (data) =>
  typeof data === "string" ? { text: data } : { base64: Buffer.from(data).toString("base64") }

// Node 20 has no WebSocket of its own. This one also reports the frames and the close code.
globalThis.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args)
    this.addEventListener("message", ({ data }) => tell("frame", { from: "server", ...shown(data) }))
    this.addEventListener("close", ({ code }) => tell("close", { code }))
  }
  send(data, ...rest) {
    tell("frame", { from: "client", ...shown(data) })
    super.send(data, ...rest)
  }
}

const client = new RealtimeClient(url, { params: { apikey } })
const channels = new Map()
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64")).buffer
const payloadOf = ({ payload, base64 }) => (base64 === undefined ? payload : bytes(base64))

const channelOf = (topic, config = {}) => {
  if (!channels.has(topic)) channels.set(topic, client.channel(topic, { config }))
  return channels.get(topic)
}

const commands = {
  subscribe({ topic, config, presence, changes }) {
    const channel = channelOf(topic, config)
    channel.on("broadcast", { event: "*" }, ({ event, payload, meta }) => {
      const body = payload instanceof ArrayBuffer ? { base64: shown(payload).base64 } : { payload }
      tell("broadcast", { topic, event, ...body, replayed: meta?.replayed === true })
    })
    channel.on("system", {}, ({ status, message }) => tell("system", { topic, status, message }))
    if (presence) channel.on("presence", { event: "sync" }, () => tell("sync", { topic, keys: Object.keys(channel.presenceState()) }))
    if (changes) channel.on("postgres_changes", changes, ({ eventType, new: row }) => tell("change", { topic, type: eventType, row }))
    channel.subscribe((status, error) => tell("status", { topic, status, error: error?.message ?? null }))
  },
  async send({ topic, event, ...body }) {
    tell("sent", { event, result: await channelOf(topic).send({ type: "broadcast", event, payload: payloadOf(body), ...(body.persist && { persist: true }) }) })
  },
  async track({ topic, payload }) {
    tell("tracked", { result: await channelOf(topic).track(payload) })
  },
  async untrack({ topic }) {
    tell("tracked", { result: await channelOf(topic).untrack() })
  },
  async "set auth"({ token }) {
    await client.setAuth(token)
    tell("set auth", {})
  },
  async http({ topic, event, private: isPrivate, ...body }) {
    const channel = channelOf(topic, { private: isPrivate ?? false })
    try {
      await channel.httpSend(event, payloadOf(body), body.persist ? { persist: true } : {})
      tell("http", { result: "ok" })
    } catch (error) {
      tell("http", { result: error.message })
    }
  },
  crash({ topic }) {
    channelOf(topic).send({ type: "crash" })
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...fields } = JSON.parse(line)
  commands[command](fields)
}
process.exit(0)
