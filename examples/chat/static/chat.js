// The client of the chat: one socket, one channel, and the notice on the page when either is lost.
// phoenix.js reconnects and rejoins automatically. This file only shows the state.

import { Socket } from "phoenix"
import { Others } from "./others.js"
import { Recovery } from "./recovery.js"
import * as view from "./view.js"

const room = new URLSearchParams(location.search).get("room") ?? "lobby"
const recovery = new Recovery(view.showRecovery)
const others = new Others(view.showOther)
let process = null // the number of the process that serves this tab, while there is one
let connected = false

const socket = new Socket("/socket", { longPollFallbackMs: 2500 })

// Registered before the channel exists, so that it runs first: the channel rejoins on the same event.
socket.onOpen(() => {
  connected = true
  recovery.reach("open")
})

// phoenix.js asks for this payload at every join, so a name outlives the process it was given to.
const channel = socket.channel(`room:${room}`, () => {
  recovery.reach("join")
  return { name: view.name() }
})

// Also called for every attempt to connect that fails.
socket.onClose(() => {
  if (connected) recovery.begin("away", "lost")
  else recovery.failedTry()
  connected = false
  process = null
  others.forget()
  view.showNoProcess()
  view.showState("away", "No server, trying again")
})

channel.onError(() => {
  if (!socket.isConnected()) return // the whole connection went, and onClose tells of it
  recovery.reach("error")
  if (process !== null) others.crashed()
  process = null
  view.showNoProcess()
  view.showState("crashed", "Crashed, rejoining")
})

channel.on("new_msg", (message) => {
  const mine = message.process === process
  view.addMessage(message, mine)
  if (!mine) others.spoke(message)
})

channel
  .join()
  .receive("ok", (reply) => {
    process = reply.process
    view.showProcess(process)
    view.showState("joined", "Connected")
    recovery.reach("joined", process)
  })
  .receive("error", ({ reason }) => {
    if (reason === "unauthorized") {
      view.showState("refused", "Refused: unauthorized")
      channel.leave() // phoenix.js would ask again for ever
    } else {
      view.showState("crashed", `Not joined: ${reason}`) // and phoenix.js will ask again
    }
  })

view.showTopic(channel.topic)
view.onRename((name) => process !== null && channel.push("rename", { name }))
view.onSend((body) => {
  const waiting = view.addWaiting(body)
  channel
    .push("new_msg", { body })
    .receive("ok", ({ count }) => view.showCount(count))
    .receive("timeout", () => waiting.lost())
})
view.onCrash(() => {
  recovery.begin("crash", "crash")
  channel.push("crash", {})
})

socket.connect()
