// @absinthe/socket, the client of GraphQL over Phoenix Channels

import absinthe from "@absinthe/socket"
import assert from "node:assert/strict"
import { Socket } from "phoenix"
import { Arrivals, restart, run, url, WebSocket } from "./steps.mjs"

const socket = absinthe.create(new Socket(`${url}/socket`, { transport: WebSocket }))

/** Send a document, and return the arrivals of what its observer gets. */
const send = (operation, variables) => {
  const arrivals = { start: new Arrivals(), result: new Arrivals(), abort: new Arrivals(), cancel: new Arrivals() }
  const notifier = absinthe.send(socket, { operation, variables })
  absinthe.observe(socket, notifier, {
    onStart: arrivals.start.put,
    onResult: arrivals.result.put,
    onAbort: arrivals.abort.put,
    onCancel: arrivals.cancel.put,
  })
  return { ...arrivals, notifier }
}

const rename = async (name) => {
  const sent = send("mutation Rename($id: ID!, $name: String!) { item(id: $id, name: $name) { name } }", { id: "1", name })
  return sent.result.next()
}

const SUBSCRIPTION = "subscription Renamed($id: ID!) { item(id: $id) { name } }"
let subscription

await run({
  async query() {
    const sent = send("query Item($id: ID!) { item(id: $id) { name } }", { id: "1" })
    assert.deepEqual(await sent.result.next(), { data: { item: { name: "milk" } } })
  },

  async "refused query"() {
    const sent = send("query Price { price }")
    assert.deepEqual(await sent.result.next(), { errors: [{ message: "Cannot query this field" }] })
  },

  async mutation() {
    assert.deepEqual(await rename("oat milk"), { data: { item: { name: "oat milk" } } })
  },

  async subscription() {
    subscription = send(SUBSCRIPTION, { id: "1" })
    await subscription.start.next()
    await rename("bread")
    assert.deepEqual(await subscription.result.next(), { data: { item: { name: "bread" } } })
  },

  async restart() {
    restart()
    await subscription.start.next()
    await rename("butter")
    assert.deepEqual(await subscription.result.next(), { data: { item: { name: "butter" } } })
  },

  async cancel() {
    const notifier = socket.notifiers.find((each) => each.operationType === "subscription")
    absinthe.cancel(socket, notifier)
    await subscription.cancel.next()
    const late = new Arrivals()
    socket.phoenixSocket.onMessage(({ event }) => event === "subscription:data" && late.put(event))
    await rename("tea")
    // Data about the first change would arrive before the answer to the second one.
    await rename("coffee")
    assert.deepEqual(late.values, [])
  },
})
