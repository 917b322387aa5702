// The client of a bidder: it lists the auctions of the hall, and takes part in one of them.

import { Presence, Socket } from "phoenix"
import { durable } from "ashtree/durable"
import { watch } from "/style/state.js"

const $ = (id) => document.getElementById(id)
const { token, user } = document.body.dataset

const socket = new Socket("/socket", { authToken: token })
const hall = durable(socket, "auctions")
const known = new Map() // the titles of the auctions, by their keys
let auction = null // the channel of the auction on this page
let lot = null // its last state

function row(tag, ...parts) {
  const item = document.createElement(tag)
  item.append(...parts)
  return item
}

function bold(text) {
  return row("b", String(text))
}

/** Show the state of the auction. A snapshot may be newer than the events that follow it. */
function show(next) {
  if (lot && (lot.sold || next.price < lot.price)) return
  if (next.leader && (next.leader !== lot?.leader || next.price !== lot?.price))
    $("bids").prepend(row("li", next.leader, bold(next.price)))
  lot = next
  $("title").textContent = lot.title
  $("price").textContent = lot.price
  const { leader, sold } = lot
  const who = leader === user ? "you" : leader
  $("leader").textContent = sold ? (leader ? `Sold to ${who}` : "Nobody wanted it") : leader ? `Leading: ${who}` : "No bid yet"
  document.body.classList.toggle("sold", sold)
  if (sold) $("countdown").textContent = ""
  $("offer").hidden = sold
  if (!($("amount").value > lot.price)) $("amount").value = lot.price + 10
}

/** Leave the auction on this page, and join another one. */
function enter(key) {
  auction?.leave()
  lot = null
  $("bids").replaceChildren()
  $("countdown").textContent = $("answer").textContent = $("amount").value = ""
  const channel = durable(socket, `auction:${key}`)
  const presence = new Presence(channel)
  presence.onSync(() => $("bidders").replaceChildren(...presence.list((name) => row("li", name))))
  for (const event of ["lot", "opened", "bid", "sold"]) channel.on(event, show)
  channel.on("countdown", ({ seconds, node }) => {
    if (lot?.sold) return
    $("countdown").textContent = `${seconds} s left`
    $("countdown").classList.toggle("soon", seconds <= 10)
    $("auction-node").textContent = node
  })
  auction = channel
  watch(socket, channel, ({ node }) => ($("page-node").textContent = node))
}

/** Add an auction to the list. Its scheduler may have announced it twice. */
function add({ key, title }) {
  if (known.has(key)) return false
  known.set(key, title)
  const button = row("button", title)
  button.type = "button"
  button.className = "quiet"
  button.addEventListener("click", () => enter(key))
  $("auctions").prepend(row("li", button))
  return true
}

hall.on("list", ({ auctions }) => {
  auctions.forEach(add)
  if (!auction && auctions.length) enter(auctions.at(-1).key)
})
hall.on("opened", (opened) => {
  // Follow the scheduler, unless the auction on this page goes on.
  if (add(opened) && (!lot || lot.sold)) enter(opened.key)
})

$("offer").addEventListener("submit", (event) => {
  event.preventDefault()
  auction
    .push("bid", { amount: Number($("amount").value) })
    .receive("ok", () => ($("answer").textContent = ""))
    .receive("error", ({ reason }) => ($("answer").textContent = `Refused: ${reason}`))
    .receive("timeout", () => ($("answer").textContent = "No answer. Look whether your bid leads."))
})

socket.connect()
watch(socket, hall)
