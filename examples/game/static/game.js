// The client of a player. The tab keeps a secret id, so that a new channel belongs to the same player.

import { Socket } from "phoenix"
import { watch } from "/style/state.js"

const $ = (id) => document.getElementById(id)
const query = new URLSearchParams(location.search)
const pick = (words) => words[Math.floor(Math.random() * words.length)]

const keep = (key, make) => {
  const value = sessionStorage.getItem(key) ?? make()
  sessionStorage.setItem(key, value)
  return value
}
const newId = () => [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("")
const me = {
  id: keep("id", newId),
  name: query.get("name") ?? keep("name", () => pick(["Otter", "Heron", "Wren", "Finch", "Ibis", "Hare"])),
}

const socket = new Socket("/socket")
const channel = socket.channel(`game:${query.get("room") ?? "lobby"}`, me)
let crashed = false
let mine = null // the id of this player on the board, which all players see

function token(className, x, y, text, hue) {
  const cell = document.createElement("span")
  cell.className = className
  cell.style.cssText = `--x: ${x}; --y: ${y}; --hue: ${hue}`
  const disc = document.createElement("i")
  disc.textContent = text
  cell.append(disc)
  return cell
}

const hueOf = (id) => parseInt(id.slice(0, 6), 16) % 360

function row({ id, name, coins, here }) {
  const item = document.createElement("li")
  const disc = document.createElement("i")
  disc.textContent = name[0]
  disc.style.setProperty("--hue", hueOf(id))
  const count = document.createElement("b")
  count.textContent = coins
  item.append(disc, `${name}${id === mine ? " (you)" : ""}${here ? "" : ", away"}`, count)
  return item
}

channel.on("board", ({ players, coins }) => {
  $("board").replaceChildren(
    ...coins.map(([x, y]) => token("coin", x, y, "", 0)),
    ...players.map(({ id, name, x, y, here }) =>
      token(`player${id === mine ? " me" : ""}${here ? "" : " away"}`, x, y, name[0], hueOf(id)),
    ),
  )
  const places = players.map(({ name, x, y }) => `${name} at column ${x + 1}, row ${y + 1}`)
  const gold = coins.map(([x, y]) => `column ${x + 1}, row ${y + 1}`)
  $("board").setAttribute("aria-label", `The board: ${places.join("; ")}. Coins at ${gold.join("; ")}.`)
  $("players").replaceChildren(...players.map(row))
  if (crashed) {
    crashed = false
    const player = players.find(({ id }) => id === mine)
    $("lesson").textContent = `You are back in the same game, with ${player.coins} coins. The game did not crash.`
  }
})

const KEYS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" }
// A step that waits for a rejoin would surprise the player, so it is not sent.
const walk = (direction) => channel.state === "joined" && channel.push("move", { direction })

document.addEventListener("keydown", (event) => {
  if (!(event.key in KEYS) || event.altKey || event.ctrlKey || event.metaKey) return
  event.preventDefault() // an arrow key would scroll the page
  walk(KEYS[event.key])
})
for (const button of document.querySelectorAll("#arrows button"))
  button.addEventListener("click", () => walk(button.dataset.direction))

$("crash").addEventListener("click", () => channel.push("crash", {}))
channel.onError(() => {
  crashed = true
  $("channel").textContent = "gone"
})

socket.connect()
watch(socket, channel, (reply) => {
  mine = reply.player
  $("channel").textContent = `process ${reply.channel}`
  $("game").textContent = `process ${reply.game}`
})
