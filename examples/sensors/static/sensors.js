// Two clients in one page: the page itself over a WebSocket, and the sensors of the rooms over long polling.

import { LongPoll, Socket } from "phoenix"
import { watch } from "/style/state.js"

const ROOMS = ["hall", "kitchen", "porch"]
const SECONDS_LIT = 30
const $ = (id) => document.getElementById(id)

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

// --- the page ------------------------------------------------------------------------------------

const page = new Socket("/socket")
const lights = page.channel("lights")
const lamps = new Map(ROOMS.map((room) => [room, makeLamp(room)]))

function makeLamp(room) {
  const lamp = { state: "dark", darkAt: 0, words: element("span", { className: "words" }), button: element("button", { type: "button", className: "quiet" }) }
  lamp.item = element("li", {}, element("span", { className: "bulb" }), element("b", {}, room), lamp.words, lamp.button)
  lamp.button.addEventListener("click", () =>
    lights.push("switch", { lamp: room, to: lamp.state === "held" ? "automatic" : "on" }),
  )
  $("lamps").append(lamp.item)
  return lamp
}

function draw(room) {
  const { state, darkAt, item, words, button } = lamps.get(room)
  const left = Math.max(0, Math.ceil((darkAt - performance.now()) / 1000))
  item.dataset.lampState = state
  words.textContent = { dark: "dark", lit: `lit, dark in ${left} s without motion`, held: "held on" }[state]
  button.textContent = state === "held" ? "Automatic" : "Hold on"
  button.setAttribute("aria-label", state === "held" ? `Make the lamp in the ${room} automatic` : `Hold on the lamp in the ${room}`)
}

lights.on("lamp", ({ lamp, state }) => {
  Object.assign(lamps.get(lamp), { state, darkAt: performance.now() + SECONDS_LIT * 1000 })
  draw(lamp)
})
setInterval(() => ROOMS.filter((room) => lamps.get(room).state === "lit").forEach(draw), 1000)
ROOMS.forEach(draw)

// --- the sensors ---------------------------------------------------------------------------------

const devices = new Socket("/devices", { transport: LongPoll })
devices.connect()

function answer(words, refused) {
  $("answer").textContent = words
  $("answer").classList.toggle("refused", refused)
}

for (const room of ROOMS) {
  const sensor = devices.channel(`sensor:${room}`)
  sensor.join()
  const button = element("button", { type: "button" }, `Motion in the ${room}`)
  button.addEventListener("click", () =>
    sensor
      .push("motion", {})
      .receive("ok", () => answer(`The sensor in the ${room} has reported motion.`, false))
      .receive("error", ({ reason, retry_after_ms }) =>
        answer(`Refused: ${reason}. The next report is possible in ${(retry_after_ms / 1000).toFixed(1)} s.`, true),
      ),
  )
  $("sensors").append(button)
}

page.connect()
watch(page, lights)
