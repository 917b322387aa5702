// The tree of processes. The server sends rows. The tree has one element for each row, and updates only changed rows.

import { duration, element } from "./story.js"

const FRESH = 10 // seconds in which a process counts as new
const FAREWELL = 1500 // milliseconds for which the struck-out row of an ended process stays

export class Tree {
  // `place` is the element. `on` has the functions pick(row) and view(view), which it calls when the user chooses a row or a view.
  constructor(place, on) {
    this.place = place
    this.on = on
    this.rows = new Map()
    this.elements = new Map()
    this.view = { open: new Set(), folded: new Set(), search: "" }
    this.picked = null
    this.focused = null
    this.offset = 0 // seconds by which the clock of the server is ahead
    this.first = true
    place.addEventListener("click", (event) => this.clicked(event))
    place.addEventListener("keydown", (event) => this.key(event))
    setInterval(() => this.refreshAges(), 1000)
  }

  apply({ all, set = [], gone = [], now }) {
    this.offset = now - Date.now() / 1000
    if (all) {
      const kept = new Set(set.map((row) => row.key))
      for (const key of [...this.rows.keys()]) if (!kept.has(key)) this.remove(key, this.first)
    }
    for (const key of gone) this.remove(key, this.view.search !== "")
    if (set.length === 0 && !all && gone.length === 0) return
    for (const row of set) this.rows.set(row.key, row)
    this.arrange(new Set(set.map((row) => row.key)))
    this.first = false
  }

  remove(key, atOnce) {
    const made = this.elements.get(key)
    const row = this.rows.get(key)
    this.rows.delete(key)
    this.elements.delete(key)
    if (made === undefined) return
    if (atOnce || row?.type !== "process") return made.remove()
    made.classList.remove("picked")
    made.classList.add("gone")
    made.removeAttribute("data-key")
    made.setAttribute("aria-hidden", "true")
    setTimeout(() => made.remove(), FAREWELL)
  }

  // Put all elements into the order of the tree.
  arrange(changed) {
    const below = new Map()
    for (const row of this.rows.values()) {
      const parent = this.rows.has(row.parent) ? row.parent : null
      if (!below.has(parent)) below.set(parent, [])
      below.get(parent).push(row)
    }
    const order = []
    const visit = (parent, depth) => {
      const children = below.get(parent)
      if (children === undefined) return
      children.sort((one, other) => one.order - other.order)
      for (const row of children) {
        order.push([row, depth])
        visit(row.key, depth + 1)
      }
    }
    visit(null, 0)
    let before = null
    for (const [row, depth] of order) {
      let made = this.elements.get(row.key)
      if (made === undefined) {
        made = element("div", "node")
        made.setAttribute("role", "treeitem")
        made.dataset.key = row.key
        this.elements.set(row.key, made)
        changed.add(row.key)
      }
      if (changed.has(row.key)) this.fill(made, row)
      made.style.setProperty("--depth", depth)
      made.setAttribute("aria-level", depth + 1)
      let next = before === null ? this.place.firstChild : before.nextSibling
      while (next !== null && next !== made && next.classList.contains("gone")) {
        before = next
        next = next.nextSibling
      }
      if (next !== made) this.place.insertBefore(made, next)
      before = made
    }
  }

  fill(made, row) {
    made.className = `node ${row.type}`
    made.classList.toggle("picked", row.key === this.picked)
    const folded = row.type === "group" ? !this.view.open.has(row.key) : this.view.folded.has(row.key)
    const twist = element("span", "twist", row.children ? (folded ? "▸" : "▾") : "")
    if (row.children) made.setAttribute("aria-expanded", String(!folded))
    else made.removeAttribute("aria-expanded")
    const parts = [twist, element("span", "title", row.title)]
    if (row.type === "group") parts.push(element("span", "count", `× ${row.count.toLocaleString("en")}`))
    if (row.kind) parts.push(element("span", "kind", row.kind))
    if (row.pid) parts.push(element("span", "pid", `<pid ${row.pid}>`))
    if (row.status) parts.push(element("span", "note bad", row.status))
    if (row.restarts) parts.push(element("span", "note again", `restarted ${row.restarts}×`))
    if (row.mailbox) parts.push(element("span", "note mail", `${row.mailbox.toLocaleString("en")} waiting`))
    if (row.type === "process") parts.push(element("span", "age"))
    made.replaceChildren(...parts)
    this.refreshAge(made, row)
  }

  refreshAges() {
    for (const [key, made] of this.elements) this.refreshAge(made, this.rows.get(key))
  }

  refreshAge(made, row) {
    if (row?.type !== "process") return
    const age = Math.max(0, Date.now() / 1000 + this.offset - row.born)
    const words = age < 60 ? `${duration(age)} old` : ""
    const place = made.querySelector(".age")
    if (place.textContent !== words) place.textContent = words
    made.classList.toggle("new", age < FRESH && !this.first)
  }

  // Choices

  clicked(event) {
    const made = event.target.closest("[data-key]")
    if (made === null) return
    const row = this.rows.get(made.dataset.key)
    if (row === undefined) return
    if (event.target.classList.contains("twist") || row.type === "group") this.toggle(row)
    else if (row.type === "process") this.pick(row)
  }

  pick(row) {
    this.mark(row.key)
    this.on.pick(row)
  }

  mark(key) {
    this.elements.get(this.picked)?.classList.remove("picked")
    this.picked = key
    const made = this.elements.get(key)
    made?.classList.add("picked")
    made?.scrollIntoView({ block: "nearest" })
  }

  toggle(row) {
    if (!row.children) return
    const keys = row.type === "group" ? this.view.open : this.view.folded
    if (!keys.delete(row.key)) keys.add(row.key)
    this.fill(this.elements.get(row.key), row)
    this.on.view(this.wanted())
  }

  search(words) {
    this.view.search = words
    this.on.view(this.wanted())
  }

  wanted() {
    return { open: [...this.view.open], folded: [...this.view.folded], search: this.view.search }
  }

  key(event) {
    const shown = [...this.place.querySelectorAll("[data-key]")]
    const at = shown.findIndex((made) => made.dataset.key === this.picked)
    const row = this.rows.get(this.picked)
    const keys = {
      ArrowDown: () => this.step(shown[at + 1]),
      ArrowUp: () => this.step(shown[Math.max(0, at - 1)]),
      Home: () => this.step(shown[0]),
      End: () => this.step(shown[shown.length - 1]),
      ArrowRight: () => row && made(row, "false") && this.toggle(row),
      ArrowLeft: () => row && (made(row, "true") ? this.toggle(row) : this.step(this.elements.get(row.parent))),
      Enter: () => row && (row.type === "group" ? this.toggle(row) : this.pick(row)),
    }
    const made = (each, expanded) => this.elements.get(each.key)?.getAttribute("aria-expanded") === expanded
    const action = keys[event.key]
    if (action === undefined) return
    event.preventDefault()
    action()
  }

  step(made) {
    if (made === undefined || made === null) return
    this.mark(made.dataset.key)
    const row = this.rows.get(made.dataset.key)
    if (row?.type === "process") this.on.pick(row)
  }
}
