// The timeline on one canvas. The canvas has the size of the visible part.

const canvas = document.getElementById("canvas")
const pen = canvas.getContext("2d")
let colors = {}

// A custom property is text, such as `light-dark(…)`. Only the colour of an element is a colour that the pen can use.
function readColors() {
  colors = {}
  for (const name of ["card", "ink", "soft", "line", "row", "box", "box-ink", "again", "ended", "crash", "fault",
    "during", "leaf", "ember", "arrow", "scrub", "pick"]) {
    canvas.style.color = `var(--${name})`
    colors[name] = getComputedStyle(canvas).color
  }
}

let waiting = false
function redraw() {
  if (waiting) return
  waiting = true
  requestAnimationFrame(() => {
    waiting = false
    draw()
  })
}

function draw() {
  const scale = window.devicePixelRatio || 1
  if (canvas.width !== Math.round(view.width * scale) || canvas.height !== Math.round(view.height * scale)) {
    canvas.width = Math.round(view.width * scale)
    canvas.height = Math.round(view.height * scale)
    canvas.style.width = `${view.width}px`
    canvas.style.height = `${view.height}px`
  }
  pen.setTransform(scale, 0, 0, scale, 0, 0)
  pen.fillStyle = colors.card
  pen.fillRect(0, 0, view.width, view.height)
  pen.save()
  pen.beginPath()
  pen.rect(0, HEAD, view.width, view.height - HEAD)
  pen.clip()
  const visible = view.rows.filter((row) => row.y + row.height > view.scroll && row.y < view.scroll + view.height)
  drawStripes(visible)
  drawPhases(HEAD, view.height)
  clipToTime(HEAD, view.height, () => {
    drawFaultLines()
    for (const row of visible) drawRow(row)
    drawMessages()
    drawBlast()
  })
  for (const row of visible) drawLabel(row)
  pen.restore()
  drawHead()
  drawMoment()
}

function clipToTime(top, bottom, work) {
  pen.save()
  pen.beginPath()
  pen.rect(LABELS, top, view.width - LABELS, bottom - top)
  pen.clip()
  work()
  pen.restore()
}

const yOf = (row) => HEAD + row.y - view.scroll

function drawStripes(visible) {
  visible.forEach((row) => {
    pen.fillStyle = row.place.depth % 2 ? colors.row : colors.card
    pen.fillRect(0, yOf(row), view.width, row.height)
  })
}

function drawPhases(top, bottom) {
  clipToTime(top, bottom, () => {
    for (const [name, from, to] of RUN.phases) {
      if (name === "during") {
        pen.fillStyle = colors.during
        pen.fillRect(xOf(from), top, xOf(to) - xOf(from), bottom - top)
      }
      pen.fillStyle = colors.line
      pen.fillRect(Math.round(xOf(from)), top, 1, bottom - top)
    }
  })
}

function drawRow(row) {
  if (row.crowd) drawCrowd(row)
  else for (const process of row.processes) drawProcess(row, process)
}

// Dim a process unless the picked fault ended it or it replaced such a process.
function dimmed(process) {
  if (view.picked?.fault === undefined) return false
  const fault = faults[view.picked.fault]
  if (fault.target === process.index || process.fault === fault.index) return false
  return process.replaces < 0 || processes[process.replaces].fault !== fault.index
}

function drawProcess(row, process) {
  const left = xOf(process.born)
  const right = Math.max(xOf(endOf(process)), left + 2)
  const gone = process.back >= 0 ? xOf(processes[process.back].born) : right
  if (gone < LABELS || left > view.width) return
  const y = yOf(row) + 3
  const height = row.height - 6
  const begin = Math.max(left, LABELS - 4)
  const end = Math.min(right, view.width + 4)
  pen.globalAlpha = dimmed(process) ? 0.3 : 1
  pen.fillStyle = colors.box
  pen.fillRect(begin, y, end - begin, height)
  if (process.replaces >= 0) edge(left, y, height, colors.again, 1)
  if (process.ended !== null) {
    const color = process.fault >= 0 ? colors.fault : process.ending >= 2 ? colors.crash : colors.ended
    edge(right, y, height, color, -1)
    if (process.ending >= 2 || process.fault >= 0) cross(right, y + height / 2, color)
    if (process.back >= 0) missing(right, gone, y + height / 2)
  }
  if (end - begin > 34 && process.incarnation > 1) {
    pen.fillStyle = colors["box-ink"]
    pen.font = "11px system-ui, sans-serif"
    pen.textBaseline = "middle"
    pen.fillText(`#${process.incarnation}`, Math.max(begin, LABELS) + 6, y + height / 2 + 0.5)
  }
  if (view.picked?.process === process.index || view.hover?.process === process.index) {
    pen.strokeStyle = view.picked?.process === process.index ? colors.pick : colors.ink
    pen.lineWidth = 2
    pen.strokeRect(begin, y, end - begin, height)
  }
  pen.globalAlpha = 1
}

function edge(x, y, height, color, direction) {
  pen.fillStyle = color
  pen.fillRect(direction > 0 ? x : x - 3, y - 1, 3, height + 2)
}

function cross(x, y, color) {
  pen.strokeStyle = color
  pen.lineWidth = 2
  pen.beginPath()
  pen.moveTo(x + 2, y - 4)
  pen.lineTo(x + 10, y + 4)
  pen.moveTo(x + 10, y - 4)
  pen.lineTo(x + 2, y + 4)
  pen.stroke()
}

// The time without a process.
function missing(from, to, y) {
  if (to - from < 3) return
  pen.strokeStyle = colors.crash
  pen.lineWidth = 1.5
  pen.setLineDash([3, 3])
  pen.beginPath()
  pen.moveTo(from, y)
  pen.lineTo(to, y)
  pen.stroke()
  pen.setLineDash([])
}

function drawCrowd(row) {
  const { steps, peak } = row.crowd
  const top = yOf(row) + 8
  const bottom = yOf(row) + row.height - 3
  const level = (number) => bottom - ((bottom - top) * number) / Math.max(peak, 1)
  pen.beginPath()
  pen.moveTo(LABELS - 4, bottom)
  let last = 0
  for (const [time, number] of steps) {
    const x = Math.max(xOf(time), LABELS - 4)
    pen.lineTo(x, level(last))
    pen.lineTo(x, level(number))
    last = number
    if (x > view.width) break
  }
  const end = Math.min(xOf(END), view.width + 4)
  pen.lineTo(end, level(last))
  pen.lineTo(end, bottom)
  pen.closePath()
  pen.globalAlpha = 0.55
  pen.fillStyle = colors.box
  pen.fill()
  pen.globalAlpha = 1
  pen.strokeStyle = colors.box
  pen.lineWidth = 1.5
  pen.stroke()
  for (const process of row.processes) drawInCrowd(process, yOf(row) + 2)
}

// Ends and replacements in a crowd, as ticks above the crowd.
function drawInCrowd(process, y) {
  const came = xOf(process.born)
  if (process.replaces >= 0 && came >= LABELS && came <= view.width) {
    pen.globalAlpha = dimmed(process) ? 0.25 : 1
    pen.fillStyle = colors.again
    pen.fillRect(came, y + 6, 2, 6)
  }
  if (process.ended !== null && (process.ending >= 2 || process.fault >= 0)) {
    const x = xOf(process.ended)
    if (x >= LABELS && x <= view.width) {
      pen.globalAlpha = dimmed(process) ? 0.25 : 1
      pen.fillStyle = process.fault >= 0 ? colors.fault : colors.crash
      pen.fillRect(x - 1, y, 2.5, 8)
    }
  }
  pen.globalAlpha = 1
}

function drawLabel(row) {
  const y = yOf(row)
  pen.fillStyle = row.place.depth % 2 ? colors.row : colors.card
  pen.fillRect(0, y, LABELS - 1, row.height)
  pen.fillStyle = colors.line
  pen.fillRect(LABELS - 1, y, 1, row.height)
  const indent = 12 + row.place.depth * 13 + (row.deeper ? 13 : 0)
  pen.textBaseline = "middle"
  pen.font = "12.5px system-ui, sans-serif"
  const middle = y + row.height / 2
  if (row.deeper) {
    pen.fillStyle = colors.soft
    pen.fillText(short(`${row.crowd.peak} at a time in ${deepPlaces(row.place)} places`, LABELS - indent - 8), indent, middle)
    return
  }
  const title = row.processes.length && !row.crowd ? row.processes[0].title : ""
  if (!row.first) {
    pen.fillStyle = colors.ink
    if (title) pen.fillText(short(title, LABELS - indent - 8), indent, middle)
    return
  }
  const sign = row.place.below.length ? (row.place.folded ? "▸" : "▾") : row.place.crowded ? (row.place.open ? "▾" : "▸") : ""
  pen.fillStyle = colors.soft
  pen.fillText(sign, indent - 11, middle)
  pen.fillStyle = colors.ink
  if (view.search && (title || row.place.path).toLowerCase().includes(view.search.toLowerCase())) pen.fillStyle = colors.scrub
  const number = row.crowd ? ` × ${row.crowd.peak}` : ""
  pen.fillText(short(title || row.place.name, LABELS - indent - 8 - number.length * 7) + number, indent, middle)
}

function deepPlaces(place) {
  return place.below.reduce((sum, each) => sum + 1 + deepPlaces(each), 0)
}

// A text that fits the width, shortened in the middle if necessary.
function short(words, room) {
  const width = pen.measureText(words).width
  if (width <= room) return words
  const keep = Math.max(3, Math.floor((words.length * room) / width) - 1)
  return `${words.slice(0, Math.ceil(keep * 0.6))}…${words.slice(words.length - Math.floor(keep * 0.4))}`
}
