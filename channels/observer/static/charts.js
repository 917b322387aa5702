// The figures above the tree: the present number, and a small chart of the last minutes.

import { bytes, duration, element, milliseconds, number } from "./story.js"

const FIGURES = [
  { name: "Processes", of: (point) => point.processes, show: number },
  { name: "Throughput", of: (point) => point.pushes, show: number, unit: " pushes/s", more: (point) => `${number(point.joins)} joins/s` },
  { name: "Latency, p99", of: (point) => point.p99, show: milliseconds, more: (point) => (point.median === null ? "of the handlers of pushes" : `median ${milliseconds(point.median)}`) },
  { name: "Mailboxes", of: (point) => point.mailboxes, show: number, unit: " waiting", more: (point) => `longest ${number(point.longest)}` },
  { name: "Restarts", of: (point) => point.restarts, show: number, more: (point) => `${number(point.crashes)} crashes, ${number(point.gave_up)} gave up` },
  { name: "Memory", of: (point) => point.memory, show: bytes, more: (point) => `loop ${milliseconds(point.late)} late` },
]
const POINTS = 240

export class Charts {
  constructor(place) {
    this.points = []
    this.parts = FIGURES.map((figure) => {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
      svg.setAttribute("viewBox", "0 0 100 34")
      svg.setAttribute("preserveAspectRatio", "none")
      svg.setAttribute("aria-hidden", "true")
      const paths = ["area", "line"].map((name) => {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
        path.setAttribute("class", name)
        svg.append(path)
        return path
      })
      const value = element("div", "value", "–")
      const range = element("div", "range", "")
      place.append(element("div", "figure", undefined, element("div", "name", figure.name), value, svg, range))
      return { figure, value, range, paths }
    })
  }

  reset(points) {
    this.points = points.slice(-POINTS)
    this.draw()
  }

  add(point) {
    this.points.push(point)
    if (this.points.length > POINTS) this.points.shift()
    this.draw()
  }

  draw() {
    const last = this.points[this.points.length - 1]
    if (last === undefined) return
    const until = last.t
    const from = Math.min(this.points[0].t, until - 30)
    for (const { figure, value, range, paths } of this.parts) {
      const now = figure.of(last)
      const words = now === null || now === undefined ? "–" : figure.show(now)
      value.replaceChildren(words, element("small", "", figure.unit ?? ""))
      range.textContent = figure.more ? figure.more(last) : `up to ${figure.show(Math.max(...this.points.map(figure.of)))}`
      const [area, line] = shape(this.points, figure.of, from, until)
      paths[0].setAttribute("d", area)
      paths[1].setAttribute("d", line)
    }
  }
}

// The paths of one chart. The chart is empty where there are no points.
function shape(points, of, from, until) {
  const values = points.map(of).filter((value) => value !== null && value !== undefined)
  const high = Math.max(...values, 1e-9) * 1.08
  let area = ""
  let line = ""
  let start = null
  let x = 0
  let before = null
  const close = () => {
    if (start !== null) area += `L${x},34L${start},34Z`
    start = null
  }
  for (const point of points) {
    const value = of(point)
    if (value === null || value === undefined || (before !== null && point.t - before > 5)) close()
    before = point.t
    if (value === null || value === undefined) continue
    x = Math.round(((point.t - from) / (until - from)) * 1000) / 10
    const y = Math.round((33 - (value / high) * 31) * 10) / 10
    if (start === null) {
      start = x
      area += `M${x},${y}`
      line += `M${x},${y}`
    } else {
      area += `L${x},${y}`
      line += `L${x},${y}`
    }
  }
  close()
  return [area, line]
}

const COLUMNS = [
  ["processes", (row) => number(row.processes)],
  ["pushes/s", (row) => number(row.pushes)],
  ["latency, p99", (row) => milliseconds(row.p99)],
  ["waiting", (row) => number(row.mailboxes)],
  ["restarts", (row) => number(row.restarts)],
  ["crashes", (row) => number(row.crashes)],
  ["memory", (row) => bytes(row.memory)],
  ["last news", (row) => (row.silent < 3 ? "now" : `${Math.round(row.silent)} s ago`)],
]

// One line for each node, also for the node of the page. If there are no other nodes, there are no lines. `shown` is the
// node whose processes the page shows, or null for the node of the page. `choose` shows another node.
export class Nodes {
  constructor(place, choose) {
    this.place = place
    this.choose = choose
    this.lines = new Map()
    this.names = ""
  }

  show(rows, shown) {
    this.place.hidden = rows === undefined
    if (rows === undefined) return
    const names = JSON.stringify([shown, ...rows.map((row) => row.node)])
    // Replace the lines only if the names have changed, because a replaced button loses a click.
    if (names !== this.names) this.arrange(rows, shown)
    this.names = names
    for (const row of rows) {
      const { line, cells } = this.lines.get(row.node)
      line.classList.toggle("silent", row.silent > 3)
      COLUMNS.forEach(([, say], at) => { cells[at].textContent = say(row) })
    }
  }

  arrange(rows, shown) {
    const head = element("tr", "", undefined, element("th", "", "node"), ...COLUMNS.map(([name]) => element("th", "", name)))
    this.lines = new Map(rows.map((row) => {
      const isShown = row.own ? shown === null : shown === row.node
      const cells = COLUMNS.map(() => element("td"))
      const name = isShown ? element("td", "", nameOf(row)) : element("td", "", undefined, this.button(row))
      const classes = [row.own && "own", isShown && "shown"].filter(Boolean).join(" ")
      return [row.node, { line: element("tr", classes, undefined, name, ...cells), cells }]
    }))
    this.place.replaceChildren(element("table", "", undefined, head, ...[...this.lines.values()].map(({ line }) => line)))
  }

  button(row) {
    const button = element("button", "", nameOf(row))
    button.type = "button"
    button.title = `Show the processes of ${row.node}`
    button.onclick = () => this.choose(row.own ? null : row.node)
    return button
  }
}

const nameOf = (row) => (row.own ? `${row.node} (this page)` : row.node)

const ENTITY_COLUMNS = [
  ["node", ({ node, state }) => (state === "running" || state === "moved" ? node : `${node} (${state})`)],
  ["age", ({ born }, ago) => (born === undefined ? "–" : ago(born))],
  ["messages", ({ messages }) => (messages === undefined ? "–" : number(messages))],
  ["last handover", ({ handover }, ago) => (handover === undefined ? "–" : `${handover.to === undefined ? `from ${handover.from}` : `to ${handover.to}`}, ${ago(handover.at)} ago`)],
]

// A table for each supervisor of entities. `open` shows the process of an entity.
export class Entities {
  constructor(place, open) {
    this.place = place
    this.open = open
    this.tables = []
    this.lines = []
    this.names = ""
  }

  // Show new tables, or the present ones at a later time.
  show(now, tables = this.tables) {
    this.tables = tables
    this.place.hidden = tables.length === 0
    // As in `Nodes`, a replaced button would lose a click.
    const names = JSON.stringify(tables.map(({ name, rows }) => [name, rows.map(({ key, pid, state }) => [key, pid, state])]))
    if (names !== this.names) this.arrange(tables)
    this.names = names
    const ago = (at) => duration(Math.max(0, now - at))
    tables.forEach((table, at) => {
      const { words, cells } = this.lines[at]
      const shown = table.rows.filter((row) => row.state !== "moved").length
      words.textContent = ` ${number(table.count)} running${table.count > shown ? `; these are the newest ${shown}` : ""}`
      table.rows.forEach((row, line) => {
        ENTITY_COLUMNS.forEach(([, say], column) => { cells[line][column].textContent = say(row, ago) })
      })
    })
  }

  arrange(tables) {
    this.lines = tables.map(({ rows }) => ({
      words: element("span"),
      cells: rows.map(() => ENTITY_COLUMNS.map(() => element("td"))),
    }))
    this.place.replaceChildren(...tables.map(({ name, rows }, at) => {
      const { words, cells } = this.lines[at]
      const head = ["key", ...ENTITY_COLUMNS.map(([title]) => title)].map((title) => element("th", "", title))
      const lines = rows.map((row, line) => element("tr", row.state, undefined, this.title(row), ...cells[line]))
      const caption = element("caption", "", undefined, element("b", "", name), words)
      return element("table", "", undefined, caption, element("tr", "", undefined, ...head), ...lines)
    }))
  }

  title({ key, pid }) {
    if (pid === undefined) return element("td", "", key)
    const button = element("button", "", key)
    button.type = "button"
    button.title = `Show the process of ${key}`
    button.onclick = () => this.open(pid, key)
    return element("td", "", undefined, button)
  }
}
