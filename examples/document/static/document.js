// The client of the document: what the user writes is shown at once, and sent until the server has it.

import { Socket } from "phoenix"
import { durable } from "ashtree/durable"
import * as paragraphs from "./paragraphs.js"
import * as status from "./status.js"
import { apply } from "./text.js"

const MOST = 20 // changes in one edit

let base = null // the text after all edits that came from the server
let sent = null // the edit that the server has not confirmed
let unsent = [] // the changes after it
let ready = false

const socket = new Socket("/socket")
const params = { wants_text: true }
const channel = durable(socket, "document:minutes", params)
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(36)).join("")

/** Show the text with the changes that the server does not have yet. */
function show({ mark = false } = {}) {
  if (base) paragraphs.show([sent?.changes ?? [], unsent].reduce(apply, structuredClone(base)), mark)
  status.showUnsaved((sent?.changes.length ?? 0) + unsent.length, ready)
}

/** Send one edit at a time, so that they arrive in their order. */
function send() {
  if (!ready || sent || !unsent.length) return
  sent = { id: newId(), changes: unsent.splice(0, MOST) }
  push()
}

function push() {
  const edit = sent
  channel
    // With the key, the server handles a repeated push once. It must be the same push.
    .push("edit", { id: edit.id, changes: edit.changes, _key: edit.id })
    .receive("ok", () => edit.inSnapshot && confirm(edit.id))
    .receive("error", ({ reason }) => status.showState("away", `Not saved: ${reason}`))
    .receive("timeout", () => ready && sent === edit && push())
}

/** An edit is confirmed when it comes back from the server, in its place among the edits of others. */
function confirm(id) {
  if (sent?.id === id) sent = null
  show({ mark: true })
  send()
}

channel.on("edited", ({ id, changes, _position }) => {
  if (base) apply(base, changes)
  status.showPosition(_position)
  confirm(id)
})

channel.on("checkpoint", ({ _position }) => status.showPosition(_position))

// All that this tab has missed is here: as edits, or as a new text.
channel.on("ready", ({ text }) => {
  if (text) base = text
  params.wants_text = false
  if (text && sent) sent.inSnapshot = true // perhaps, so that it would not come back
  ready = true
  status.showState("joined", "Connected")
  if (sent) push()
  show()
  send()
})

channel
  .join()
  .receive("ok", (reply) => {
    if (!reply._recovered) params.wants_text = true // until it comes, also over another join
    status.showJoin(reply)
  })
  .receive("error", ({ reason }) => status.showState("away", `Not joined: ${reason}`))

channel.onError(() => {
  ready = false
  status.showState("away", socket.isConnected() ? "Crashed, rejoining" : "No server, trying again")
  show()
})
socket.onError(() => status.showState("away", "No server, trying again"))

paragraphs.onChange((changes) => {
  for (const change of changes) {
    const last = unsent.at(-1)
    if (last?.id === change.id && last.text !== null && change.text !== null) last.text = change.text
    else unsent.push(change)
  }
  send()
  show()
}, newId)

// Ask before the user closes a tab with changes that are nowhere else.
addEventListener("beforeunload", (event) => (sent || unsent.length) && event.preventDefault())

socket.connect()
