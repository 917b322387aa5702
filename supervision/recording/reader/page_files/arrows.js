// Arrows across rows: messages, fault lines, and the processes that a fault ended.

const SHOWN = 1500 // arrows at a time; more would cover the page
const NEAR = 40 // the same limit near the time line

function drawMessages() {
  const near = ((view.to - view.from) / Math.max(view.width - LABELS, 1)) * 14
  const searched = view.found.size > 0
  const chosen = []
  for (const message of messages) {
    const last = message.received ?? message.sent
    if (last < view.from || message.sent > view.to) continue
    if (wantsMessage(message, near, searched)) chosen.push(message)
  }
  const every = Math.ceil(chosen.length / (view.messages === "all" ? SHOWN : NEAR))
  chosen.forEach((message, number) => {
    if (number % every === 0 || message.lost || view.found.has(message.index)) drawArrow(message)
  })
}

function wantsMessage(message, near, searched) {
  if (searched && view.found.has(message.index)) return true
  if (view.hover?.process !== undefined && view.hover.process >= 0) {
    if (message.from === view.hover.process || message.to === view.hover.process) return view.messages !== "none"
  }
  if (view.messages === "all") return true
  if (view.messages === "none") return false
  if (message.lost) return true
  return view.messages === "auto" && Math.abs(message.sent - view.moment) < near
}

function centre(index) {
  const row = index < 0 ? undefined : view.rowOf.get(index)
  return row === undefined ? undefined : yOf(row) + row.height / 2
}

function drawArrow(message) {
  const to = centre(message.to)
  if (to === undefined) return
  const from = centre(message.from) ?? to - 14
  const left = xOf(message.sent)
  const right = message.lost ? left + 5 : Math.max(xOf(message.received ?? message.sent), left)
  pen.globalAlpha = message.lost || view.found.has(message.index) ? 0.95 : 0.5
  pen.strokeStyle = message.lost ? colors.crash : view.found.has(message.index) ? colors.scrub : colors.arrow
  pen.lineWidth = message.lost || view.found.has(message.index) ? 1.6 : 1
  pen.beginPath()
  pen.moveTo(left, from)
  pen.lineTo(right, to)
  const angle = Math.atan2(to - from, right - left)
  for (const turn of [-0.45, 0.45]) {
    pen.moveTo(right, to)
    pen.lineTo(right - 6 * Math.cos(angle + turn), to - 6 * Math.sin(angle + turn))
  }
  pen.stroke()
  if (message.lost) {
    pen.beginPath()
    pen.arc(right, to, 2.5, 0, 7)
    pen.fillStyle = colors.crash
    pen.fill()
  }
  pen.globalAlpha = 1
}

function drawFaultLines() {
  for (const fault of happened) {
    const x = xOf(fault.time)
    if (x < LABELS || x > view.width) continue
    const picked = view.picked?.fault === fault.index
    pen.globalAlpha = picked ? 0.9 : 0.22
    pen.fillStyle = colors.fault
    pen.fillRect(x - (picked ? 1 : 0.5), HEAD, picked ? 2 : 1, view.height)
    pen.globalAlpha = 1
  }
}

// The target of each fault, and lines from the picked fault to every process that it ended.
function drawBlast() {
  for (const fault of happened) {
    const y = centre(fault.target)
    const x = xOf(fault.time)
    if (y !== undefined && x >= LABELS && x <= view.width) bolt(x, y, fault.status === "applied", 5)
  }
  if (view.picked?.fault === undefined) return
  const fault = faults[view.picked.fault]
  const top = centre(fault.target) ?? HEAD
  pen.strokeStyle = colors.fault
  pen.lineWidth = 1.5
  for (const index of fault.ended) {
    const y = centre(index)
    if (y === undefined || index === fault.target) continue
    pen.beginPath()
    pen.moveTo(xOf(fault.time), top)
    pen.quadraticCurveTo(xOf(fault.time) - 24, (top + y) / 2, xOf(processes[index].ended), y)
    pen.stroke()
  }
}

function bolt(x, y, filled, size) {
  pen.beginPath()
  pen.moveTo(x, y - size)
  pen.lineTo(x + size, y)
  pen.lineTo(x, y + size)
  pen.lineTo(x - size, y)
  pen.closePath()
  pen.fillStyle = filled ? colors.fault : colors.card
  pen.fill()
  pen.strokeStyle = filled ? colors.card : colors.fault
  pen.lineWidth = 1
  pen.stroke()
}
