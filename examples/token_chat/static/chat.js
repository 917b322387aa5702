// The client of the chat: it connects with the token of the page, and joins the lobby.

import { Socket } from "phoenix"
import { watch } from "/style/state.js"

const $ = (id) => document.getElementById(id)
const transcript = $("transcript")

const socket = new Socket("/socket", { authToken: document.body.dataset.token })
const channel = socket.channel("room:lobby")

function append(className, ...parts) {
  const item = document.createElement("div")
  item.className = className
  item.append(...parts)
  transcript.append(item)
  transcript.scrollTop = transcript.scrollHeight
  return item
}

function bold(text) {
  const name = document.createElement("b")
  name.textContent = text
  return name
}

channel.on("new_msg", ({ user, body }) => append("message", bold(user), `: ${body}`))

channel.on("user_joined", ({ user }) => {
  const button = document.createElement("button")
  button.className = "quiet"
  button.textContent = `Ignore the joins of ${user}`
  button.addEventListener("click", () => {
    channel.push("ignore", { user })
    button.replaceWith(" You will not see this again.")
  })
  append("note", bold(user), " has joined.", button)
})

$("composer").addEventListener("submit", (event) => {
  event.preventDefault()
  const body = $("body").value.trim()
  $("body").value = ""
  if (body) channel.push("new_msg", { body })
})

socket.onOpen(() => $("verified").classList.add("done"))
socket.connect() // step 4
watch(socket, channel, () => $("joined").classList.add("done"))
