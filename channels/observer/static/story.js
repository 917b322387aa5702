// Words and elements: numbers for people, the list of events, and the page of one process.

export function element(tag, classes = "", words, ...inside) {
  const made = document.createElement(tag)
  if (classes) made.className = classes
  if (words !== undefined) made.textContent = words
  made.append(...inside)
  return made
}

export const number = (value) => (value ?? 0).toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 })

export function milliseconds(value) {
  if (value === null || value === undefined) return "–"
  if (value < 1) return `${value.toFixed(2)} ms`
  return value < 1000 ? `${value.toFixed(value < 10 ? 1 : 0)} ms` : `${(value / 1000).toFixed(1)} s`
}

export function bytes(value) {
  return value === null || value === undefined ? "–" : `${(value / 1048576).toFixed(0)} MB`
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour12: false })
}

const KEPT = 500

export class Events {
  constructor(place, paused, pick) {
    this.place = place
    this.pausedWords = paused
    this.isPaused = false
    this.held = []
    this.place.addEventListener("click", (event) => {
      const line = event.target.closest("[data-pid]")
      if (line !== null) pick(Number(line.dataset.pid))
    })
  }

  add(events) {
    if (this.isPaused) {
      this.held.push(...events)
      if (this.held.length > KEPT) this.held.splice(0, this.held.length - KEPT)
      this.sayPaused()
      return
    }
    for (const event of events) {
      const line = element("li", event.kind, undefined, element("time", "", clock(event.t)), element("span", "words", event.text))
      line.dataset.n = event.n
      if (event.pid) line.dataset.pid = event.pid
      this.place.prepend(line)
    }
    while (this.place.children.length > KEPT) this.place.lastChild.remove()
  }

  gap(words) {
    if (this.place.firstChild?.classList?.contains("gap")) return
    this.place.prepend(element("li", "gap", words))
  }

  pause(on) {
    this.isPaused = on
    const held = this.held
    this.held = []
    if (!on) this.add(held)
    this.sayPaused()
  }

  sayPaused() {
    this.pausedWords.hidden = !this.isPaused
    this.pausedWords.textContent = `The list is stopped. ${this.held.length} further events are waiting.`
  }
}

const ACTIONS = { exit: "Exit", kill: "Kill", suspend: "Suspend", resume: "Resume", crash: "Crash on next message" }

export class ProcessPanel {
  constructor(place, on) {
    this.place = place
    this.on = on
    this.number = null
    this.parts = null
  }

  // `node` is the node of the process, or null for the node of the page.
  open(number, title, actions, node) {
    this.number = number
    this.where = node === null ? "" : ` on ${node}`
    const close = element("button", "", "Close")
    close.onclick = () => this.on.close()
    const heading = element("h2", "", title + this.where)
    const path = element("div", "path")
    const buttons = element("div", "actions")
    for (const [action, words] of Object.entries(ACTIONS)) {
      if (!(action in actions)) continue
      const button = element("button", action === "resume" ? "" : "danger", words)
      button.dataset.action = action
      button.onclick = () => this.on.act(action, number)
      buttons.append(button)
    }
    const answer = element("div", "answer")
    answer.setAttribute("role", "status")
    const body = element("div", "body")
    const crash = element("div", "crash")
    this.parts = { heading, path, buttons, answer, body, crash }
    this.place.replaceChildren(element("div", "head", undefined, heading, close), path, buttons, answer, body, crash)
    this.place.hidden = false
  }

  close() {
    this.number = null
    this.place.hidden = true
    this.place.replaceChildren()
  }

  about({ path, title, crash, ended, replacement }) {
    if (title) this.parts.heading.textContent = `${title} <pid ${this.number}>${this.where}`
    this.parts.path.textContent = path ?? ""
    if (crash) {
      const words = `Crashed at ${clock(crash.t)}: ${crash.error}`
      this.parts.crash.replaceChildren(element("h3", "", "Last crash"), element("div", "ended", words), element("pre", "", crash.traceback || crash.error))
    }
    if (ended) this.ended(replacement)
  }

  ended(replacement) {
    for (const button of this.parts.buttons.children) button.disabled = true
    if (this.parts.status) this.parts.status.textContent = "ended"
    const words = element("p", "ended", "This process has ended.")
    if (replacement) words.append(" Its replacement is ", this.pids([replacement], 1))
    if (this.parts.ended) this.parts.ended.replaceWith(words)
    else this.parts.body.prepend(words)
    this.parts.ended = words
  }

  answer(words, isGood = false) {
    this.parts.answer.textContent = words
    this.parts.answer.classList.toggle("good", isGood)
  }

  detail(fields) {
    if (fields.ended) return this.ended(fields.replacement)
    this.parts.ended = null
    const list = element("dl")
    const add = (name, value) => {
      if (value === undefined || value === null || value === "") return
      list.append(element("dt", "", name), value instanceof Node ? element("dd", "", undefined, value) : element("dd", "", value))
    }
    add("status", fields.status)
    this.parts.status = list.lastChild
    add("runs or waits in", fields.function)
    add("mailbox", plural(fields.mailbox, "message"))
    add("age", duration(fields.age))
    add("processor", fields.run_time === null ? null : `${fields.run_time.toFixed(3)} s`)
    add("links", this.pids(fields.links, fields.links_total))
    add("monitors", this.pids(fields.monitors, fields.monitors.length))
    add("started by", this.pids([fields.parent].filter(Boolean), 1))
    add("traps exits", fields.traps_exits ? "yes" : "no")
    const parts = [list]
    if (fields.state !== undefined) parts.push(element("h3", "", "State"), element("pre", "", pretty(fields.state)))
    if (fields.messages_shown) {
      parts.push(element("h3", "", "Last messages since this page was opened"))
      const lines = fields.messages.map((message) => element("li", "", `${clock(message.t)} ${message.kind} ${message.what ?? ""} ${message.content === undefined ? "" : JSON.stringify(message.content)}`))
      parts.push(lines.length ? element("ul", "", undefined, ...lines.reverse()) : element("p", "path", "none yet"))
    }
    this.parts.body.replaceChildren(...parts)
  }

  pids(numbers, total) {
    if (!numbers || numbers.length === 0) return null
    const place = element("span")
    for (const each of numbers.slice(0, 12)) {
      if (typeof each === "string") {
        // The address of a process on another node, which this page cannot open.
        place.append(element("span", "", each))
        continue
      }
      const link = element("button", "link", `<pid ${each}>`)
      link.onclick = () => this.on.open(each)
      place.append(link)
    }
    if (total > 12) place.append(` and ${number(total - 12)} more`)
    return place
  }
}

const plural = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`

function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2)
}
