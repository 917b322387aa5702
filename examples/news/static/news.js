// The client of a reader: it joins with the sections of the reader, and shows the newest story first.

import { Socket } from "phoenix"
import { watch } from "/style/state.js"

const list = document.getElementById("stories")
const boxes = [...document.querySelectorAll("#sections input")]
const LONGEST = 50

const chosen = () => ({ sections: boxes.filter((box) => box.checked).map((box) => box.value) })

const socket = new Socket("/socket")
const channel = socket.channel("news", chosen) // phoenix.js asks for the sections at each join

function element(tag, className, text) {
  const made = document.createElement(tag)
  made.className = className
  made.textContent = text
  return made
}

/** Show a story, unless it is on the page already. The newest number is at the top. */
function show({ number, section, headline }, isNew) {
  const others = [...list.children]
  if (others.some((item) => Number(item.dataset.number) === number)) return
  const item = element("li", isNew ? "new" : "", "")
  item.dataset.number = number
  item.dataset.section = section
  const name = section[0].toUpperCase() + section.slice(1)
  item.append(element("span", "section", name), element("span", "headline", headline))
  list.insertBefore(item, others.find((other) => Number(other.dataset.number) < number) ?? null)
  if (list.children.length > LONGEST) list.lastElementChild.remove()
}

channel.on("story", (story) => show(story, true))
channel.on("latest", ({ stories }) => stories.forEach((story) => show(story, false)))

for (const box of boxes) {
  box.addEventListener("change", () => {
    const { sections } = chosen()
    for (const item of [...list.children])
      if (!sections.includes(item.dataset.section)) item.remove()
    if (channel.state === "joined") channel.push("choose", { sections })
  })
}

socket.connect()
watch(socket, channel)
