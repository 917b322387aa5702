// Replace a style sheet of this page when its file changes. The page itself is not loaded again.

import { Socket } from "/live/phoenix/phoenix.mjs"

const socket = new Socket("/live/socket")
const channel = socket.channel("assets")
let joinedBefore = false

/** Load a style sheet again. The old one stays until the new one is there, so that the page does not flicker. */
function replace(link) {
  const url = new URL(link.href)
  url.searchParams.set("v", Date.now())
  const next = link.cloneNode()
  next.href = url
  next.addEventListener("load", () => link.remove())
  next.addEventListener("error", () => {
    delete link.dataset.replaced
    next.remove()
  })
  link.dataset.replaced = "" // so that a second change replaces only the newest link
  link.after(next)
}

function replaceAll(path) {
  const links = [...document.querySelectorAll('link[rel="stylesheet"]:not([data-replaced])')]
  links.filter(({ href }) => path === undefined || new URL(href).pathname === path).forEach(replace)
  document.dispatchEvent(new CustomEvent("css-changed", { detail: path ?? "all style sheets" }))
}

channel.on("css_changed", ({ path }) => replaceAll(path))

socket.connect()
channel.join().receive("ok", () => {
  document.body.dataset.live = "joined"
  // Changes during a lost connection were not heard.
  if (joinedBefore) replaceAll()
  joinedBefore = true
})
