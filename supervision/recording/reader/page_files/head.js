// The fixed head of the timeline: phases, time, faults, steady state, notes, and the selected moment.

function drawHead() {
  pen.fillStyle = colors.card
  pen.fillRect(0, 0, view.width, HEAD)
  drawPhases(0, HEAD)
  pen.fillStyle = colors.line
  pen.fillRect(0, HEAD - 1, view.width, 1)
  pen.fillRect(LABELS - 1, 0, 1, HEAD)
  pen.font = "12px system-ui, sans-serif"
  pen.textBaseline = "middle"
  let y = 0
  clipToTime(0, HEAD, drawPhaseNames)
  y += PHASES
  clipToTime(0, HEAD, () => drawAxis(y))
  y += AXIS
  headLabel("faults", y, FAULTS)
  clipToTime(0, HEAD, () => drawFaultMarks(y))
  y += FAULTS
  for (const check of checks) {
    headLabel(check.name, y, STRIP)
    clipToTime(0, HEAD, () => drawCheck(check, y))
    y += STRIP
  }
  if (notes.length) {
    headLabel("notes", y, STRIP)
    clipToTime(0, HEAD, () => drawNotes(y))
  }
}

function headLabel(words, y, height) {
  pen.fillStyle = colors.soft
  pen.fillText(short(words, LABELS - 20), 12, y + height / 2)
}

function drawPhaseNames() {
  pen.fillStyle = colors.soft
  for (const [name, from, to] of RUN.phases) {
    const left = Math.max(xOf(from), LABELS)
    const right = Math.min(xOf(to), view.width)
    const words = short(name === "during" ? "during: faults" : name, right - left - 8)
    if (right - left > 26) pen.fillText(words, left + 5, PHASES / 2 + 1)
  }
}

function drawAxis(y) {
  const span = view.to - view.from
  const rough = span / Math.max(2, (view.width - LABELS) / 90)
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough)
  const digits = Math.max(0, -Math.floor(Math.log10(step / 1000) + 1e-9))
  pen.fillStyle = colors.soft
  const ahead = LIVE ? (RUN.began * 1000) % step : 0 // puts the marks at whole seconds of the clock
  for (let time = Math.ceil((view.from + ahead) / step) * step - ahead; time <= view.to; time += step) {
    if (time < START) continue
    const x = xOf(time)
    pen.fillRect(x, y + AXIS - 4, 1, 4)
    pen.fillText(LIVE ? at(time, Math.min(3, digits)) : `${(time / 1000).toFixed(digits)} s`, x + 4, y + AXIS / 2)
  }
}

const WIDE = 5 // the smallest blast radius of a fault that the page marks as large
const tookAlong = (fault) => RUN.measures.faults[fault.index].took_along.length

function drawFaultMarks(y) {
  // Draw large faults last, on top of the other faults.
  for (const fault of [...happened].sort((one, other) => tookAlong(one) - tookAlong(other))) {
    const x = xOf(fault.time)
    if (x < LABELS - 8 || x > view.width + 8) continue
    const picked = view.picked?.fault === fault.index
    const wide = tookAlong(fault) >= WIDE
    const half = wide ? 8 : 5
    pen.beginPath()
    pen.moveTo(x - half, y + (wide ? 2 : 8))
    pen.lineTo(x + half, y + (wide ? 2 : 8))
    pen.lineTo(x, y + FAULTS - 3)
    pen.closePath()
    pen.fillStyle = fault.status === "applied" ? colors.fault : colors.card
    pen.fill()
    pen.strokeStyle = picked ? colors.ink : fault.status === "applied" ? colors.card : colors.fault
    pen.lineWidth = picked ? 2 : 1
    pen.stroke()
    if (wide) {
      pen.font = "bold 11px system-ui, sans-serif"
      const words = `ended ${fault.ended.length}`
      pen.fillStyle = colors.card
      pen.fillRect(x + half + 1, y, pen.measureText(words).width + 4, 14)
      pen.fillStyle = colors.fault
      pen.fillText(words, x + half + 3, y + 7)
      pen.font = "12px system-ui, sans-serif"
    }
  }
}

function drawCheck(check, y) {
  for (const span of check.spans) {
    const left = xOf(span.from)
    pen.fillStyle = span.holds ? colors.leaf : colors.ember
    pen.globalAlpha = span.holds ? 0.55 : 1
    pen.fillRect(left, y + 3, Math.max(xOf(span.to) - left, span.holds ? 0 : 2), STRIP - 6)
  }
  pen.globalAlpha = 1
}

const WORST = new Set(["invariant", "problem", "gave_up"])

function drawNotes(y) {
  for (const note of notes) {
    pen.beginPath()
    pen.arc(xOf(note.time), y + STRIP / 2, 3.5, 0, 7)
    pen.fillStyle = WORST.has(note.kind) ? colors.ember : note.kind === "heal" ? colors.leaf : colors.soft
    pen.fill()
  }
}

function noteAt(x, y) {
  const top = HEAD - 6 - STRIP
  if (!notes.length || y < top || y > HEAD) return undefined
  return notes.find((note) => Math.abs(xOf(note.time) - x) < 6)
}

function spanAt(x, y) {
  const number = Math.floor((y - PHASES - AXIS - FAULTS) / STRIP)
  const time = timeAt(x)
  return checks[number]?.spans.find((span) => time >= span.from && time < span.to)
}

function drawMoment() {
  const x = xOf(view.moment)
  if (x < LABELS || x > view.width) return
  pen.fillStyle = colors.scrub
  pen.fillRect(x - 0.75, PHASES, 1.5, view.height)
  pen.beginPath()
  pen.arc(x, PHASES + 4, 5, 0, 7)
  pen.fill()
}
