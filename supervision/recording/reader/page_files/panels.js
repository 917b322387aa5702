// The panels beside the timeline: figures, the tree at a moment, the picked item, the list of faults.

const byId = (id) => document.getElementById(id)

function element(tag, classes, words, ...inside) {
  const made = document.createElement(tag)
  if (classes) made.className = classes
  if (words !== undefined) made.textContent = words
  made.append(...inside)
  return made
}

const percent = (share) => (share === null ? "–" : `${(share * 100).toFixed(share > 0.999 && share < 1 ? 2 : 1)} %`)
const plural = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`

function showVerdict() {
  const { problems, steady, loop, machine, unrecovered } = RUN.measures
  const badge = byId("verdict")
  const words = steady.length ? "steady state came back" : unrecovered.join(", ")
  badge.className = problems.length || (!steady.length && unrecovered.length) ? "bad" : "good"
  badge.textContent = loop?.overloaded || machine?.overloaded ? "overloaded" : problems.length ? plural(problems.length, "problem") : words || "no problems"
  byId("problems").hidden = problems.length === 0
  byId("problems").replaceChildren(...problems.map(problemItem))
}

function showFigures() {
  const { applied, masked, not_applicable: inert, processes, recovery, messages: mail, steady, loop, machine, requests } = RUN.measures
  const blast = RUN.measures.blast_largest
  const own = processes.troubled
  const inOrder = processes.ended - processes.ended_by_faults - own
  const worst = steady.length ? steady.reduce((one, other) => (share(other) < share(one) ? other : one)) : null
  const outages = steady.reduce((sum, each) => sum + each.outages, 0)
  const parts = [
    [mail.in_hand, "being handled"], [mail.in_mailboxes, "in mailboxes"], [mail.to_the_dead, "sent to the dead"],
    [mail.dropped, "dropped by faults"],
  ].filter(([number]) => number > 0)
  byId("figures").replaceChildren(
    figure("Faults applied", applied, ` of ${faults.length}`, [masked && `${masked} masked`, inert && `${inert} not applicable`]),
    figure("Ended by faults", processes.ended_by_faults, " processes", [
      applied && `${blast ? `A fault took at most ${plural(blast, "other process", "other processes")} along` : "No fault took another process along"}.`,
      own && `${plural(own, "process", "processes")} ended in trouble without a fault.`,
      inOrder && `${plural(inOrder, "process", "processes")} ended in order.`], false, " "),
    recoveryFigure(recovery),
    figure("Restarted", processes.restarted, " by supervisors", [
      `${processes.gave_up} gave up`, processes.failed_starts && `${processes.failed_starts} failed to start`]),
    figure("Messages lost", mail.lost, ` of ${mail.sent + mail.omitted}`, [
      ...parts.map(([n, words]) => `${n} ${words}`), `${plural(mail.answers_lost, "answer")} lost`]),
    worst === null
      ? figure("Steady state", "–", "", ["the scenario has no checks"])
      : figure(RUN.phases.length ? "Steady during faults" : "Steady, of the checked time", percent(share(worst)), "", [
        outages ? `${plural(outages, "outage")}, longest ${length(Math.max(...steady.map((each) => each.longest_outage)))}` : "no outage"],
      steady.some((each) => !each.holds_at_end)),
    ...requests.map(answersFigure),
    ...(loop ? [lagFigure(loop)] : []),
    ...(machine ? [machineFigure(machine)] : []),
  )
}

function answersFigure(requests) {
  const inTime = requests.count ? requests.in_time / requests.count : 0
  return figure(`Answered in time: ${requests.name}`, percent(inTime), ` of ${requests.count}`, [
    requests.late && `${requests.late} late`, requests.unanswered && `${requests.unanswered} not answered`,
    requests.median === null ? "" : `median ${length(requests.median)}, p99 ${length(requests.p99)}`,
    `${requests.clients_in_time} of ${plural(requests.clients, "client")} in time`,
    requests.silent && `${plural(requests.silent, "client")} without a request during the faults`],
  inTime < 0.5 || requests.clients_in_time < 0.5 * requests.clients)
}

function lagFigure(loop) {
  return figure("Event-loop lag", length(loop.p99), " p99", [
    `median ${length(loop.median)}, longest ${length(loop.longest)}`,
    `${percent(loop.late_share)} of the time over ${length(loop.late_after)}`], loop.overloaded)
}

function machineFigure(machine) {
  return figure("Waited for a processor", percent(machine.wait_share), " of the time", [
    machine.load !== null && `load average ${machine.load.toFixed(2)} per core`], machine.overloaded)
}

const share = (each) => each.availability_during ?? each.availability

function figure(name, value, unit, more, bad = false, between = " · ") {
  return element("div", `figure${bad ? " bad" : ""}`, undefined,
    element("div", "name", name),
    element("div", "value", `${value}`, element("small", "", unit)),
    element("div", "more", more.filter(Boolean).join(between)))
}

function recoveryFigure(recovery) {
  const made = figure("Back after", length(recovery.median), " median", [
    `p99 ${length(recovery.p99)}`, recovery.missing && `${recovery.missing} not back`,
    recovery.not_rejoined && `${plural(recovery.not_rejoined, "client")} not joined again`,
    recovery.not_back > recovery.missing && `${recovery.not_back - recovery.missing} not replaced`,
    recovery.not_back || recovery.not_rejoined ? "" : "all back"])
  const bars = element("div", "bars")
  const highest = Math.max(1, ...recovery.histogram.map((bucket) => bucket.count))
  let before = 0
  for (const { up_to: limit, count } of recovery.histogram) {
    const bar = element("i")
    bar.style.height = `${(count / highest) * 100}%`
    bar.title = `${length(before)} to ${limit === null ? "longer" : length(limit)}: ${count}`
    before = limit
    bars.append(bar)
  }
  made.append(bars, element("div", "range", "", element("span", "", "1 ms"), element("span", "", "100 ms"), element("span", "", "longer")))
  return made
}

// The tree at the selected moment.

const FRESH = 1000

function showTree() {
  byId("moment").textContent = at(view.moment)
  byId("scrubber").value = `${Math.round(((view.moment - START) / (END - START)) * 1000)}`
  const lines = []
  for (const place of roots) treeLines(place, 0, lines)
  byId("tree").replaceChildren(...lines)
}

function treeLines(place, depth, lines) {
  const time = view.moment
  const alive = place.processes.filter((process) => aliveAt(process, time))
  const gone = place.processes.filter((process) => isMissing(process, time))
  if (!alive.length && !gone.length && !processesBelow(place, time)) return
  if (!place.processes.length) {
    const inside = below(place).filter((process) => aliveAt(process, time))
    lines.push(treeLine("many", depth, `${place.name} × ${inside.length}`))
    if (place.folded) return
  } else if (alive.length > (place.titles.size ? MANY : 1)) lines.push(crowdLine(place, depth, alive, gone))
  else {
    for (const process of alive) lines.push(processLine(process, process.title || place.name, depth, time))
    for (const process of gone.slice(0, 3)) lines.push(goneLine(process, process.title || place.name, depth, time))
  }
  const shown = place.below.filter((each) => processesBelow(each, time))
  shown.slice(0, 14).forEach((each) => treeLines(each, depth + 1, lines))
  if (shown.length > 14) lines.push(treeLine("more", depth + 1, `… ${shown.length - 14} more`))
}

// True if a process ended a short time ago, or has no replacement yet.
function isMissing(process, time) {
  if (process.ended === null || process.ended > time) return false
  if (process.fault < 0 && process.ending < 2) return false
  const back = process.back >= 0 ? processes[process.back].born : process.ended + FRESH * 3
  return time < back
}

function processesBelow(place, time) {
  return place.processes.some((process) => aliveAt(process, time) || isMissing(process, time)) || place.below.some((each) => processesBelow(each, time))
}

function treeLine(classes, depth, words, remark) {
  const line = element("div", classes, `${"  ".repeat(depth)}${words}`)
  line.style.whiteSpace = "pre"
  if (remark) line.append(element("span", "", remark))
  return line
}

function crowdLine(place, depth, alive, gone) {
  const line = treeLine(gone.length ? "many gone-some" : "many", depth, `${place.name} × ${alive.length}`, "")
  if (gone.length) {
    const remark = element("span", "", ` ${gone.length} missing`)
    remark.style.color = "var(--crash)"
    line.append(remark)
  }
  return line
}

function processLine(process, name, depth, time) {
  const fresh = process.replaces >= 0 && time - process.born < FRESH
  const number = process.incarnation > 1 ? ` #${process.incarnation}` : ""
  const line = treeLine(fresh ? "fresh" : "", depth, `${name}${number}`, fresh ? `back for ${seconds(time - process.born, 2)}` : "")
  line.onclick = () => pick({ process: process.index })
  return line
}

function goneLine(process, name, depth, time) {
  const line = treeLine("gone", depth, name, `gone for ${seconds(time - process.ended, 2)}`)
  line.onclick = () => pick({ process: process.index })
  return line
}

// The picked item.

function showDetail() {
  const picked = view.picked
  if (picked === null) byId("detail").replaceChildren()
  else if (picked.process !== undefined) byId("detail").replaceChildren(element("h2", "", nameOf(processes[picked.process])), facts(processFacts(processes[picked.process])))
  else byId("detail").replaceChildren(element("h2", "", faults[picked.fault].words), facts(faultFacts(faults[picked.fault])))
}

function facts(pairs) {
  const list = element("dl")
  for (const [name, value] of pairs) if (value) list.append(element("dt", "", name), element("dd", "", value))
  return list
}

function processFacts(process) {
  const back = process.back >= 0 ? processes[process.back] : null
  const before = process.replaces >= 0 ? processes[process.replaces] : null
  const sent = messages.filter((message) => message.from === process.index).length
  const got = messages.filter((message) => message.to === process.index)
  return [
    ["process", `${process.pid}, incarnation ${process.incarnation}`],
    ["started", at(process.born) + (before ? `, ${length((process.born - before.ended) / 1000)} after the one before it had ended` : "")],
    ["ended", process.ended === null ? "" : at(process.ended)],
    ["reason", process.reason],
    ["because of", faults[process.fault]?.words ?? ""],
    ["replaced", back ? `after ${length((back.born - process.ended) / 1000)}${back.restarted ? ", by its supervisor" : ""}` : process.fault >= 0 ? "never" : ""],
    [LIVE || RUN.messages_left_out ? "messages shown" : "messages", `${sent} sent, ${got.length} received, ${got.filter((message) => message.lost).length} lost`],
  ]
}

// Each text once, with the number of its occurrences.
function counted(words) {
  const numbers = new Map()
  for (const each of words) numbers.set(each, (numbers.get(each) ?? 0) + 1)
  return [...numbers].map(([each, number]) => (number > 1 ? `${each} × ${number}` : each))
}

function faultFacts(fault) {
  const figures = RUN.measures.faults[fault.index]
  const along = fault.ended.slice(1).map((index) => nameOf(processes[index]))
  return [
    ["at", at(fault.time)],
    ["status", fault.status.replace("_", " ") + (fault.why ? `: ${fault.why}` : "")],
    ["where", fault.target >= 0 ? nameOf(processes[fault.target]) : fault.path],
    ["ended", fault.ended.length ? plural(fault.ended.length, "process", "processes") : "nothing"],
    ["blast radius", counted(along).slice(0, 12).join(", ")],
    ["target back", fault.ended.length ? (figures.target_back === null ? "never" : `after ${length(figures.target_back)}`) : ""],
    ["all back", figures.all_back === null ? "" : `after ${length(figures.all_back)}`],
  ]
}

function showFaults() {
  const table = element("table", "", undefined,
    element("tr", "", undefined, element("th", "", "at"), element("th", "", "fault"), element("th", "", "back")))
  const reached = faults.filter((fault) => fault.status !== "not_applicable")
  for (const fault of reached) {
    const figures = RUN.measures.faults[fault.index]
    const inert = fault.status !== "applied"
    const back = inert ? fault.status.replace("_", " ") : figures.target_back === null ? (fault.ended.length ? "never" : "") : length(figures.target_back)
    const row = element("tr", inert ? "inert" : "", undefined,
      element("td", "", at(fault.time, 2)), faultCell(fault), element("td", "", back))
    row.dataset.fault = fault.index
    row.classList.toggle("picked", view.picked?.fault === fault.index)
    row.onclick = () => pick({ fault: fault.index })
    table.append(row)
  }
  // One line for all faults that were not reached.
  if (reached.length < faults.length) {
    const why = counted(faults.filter((fault) => !reached.includes(fault)).map((fault) => fault.why || "no reason"))
    const words = `${faults.length - reached.length} of ${faults.length} not applicable: ${why.join("; ")}`
    const cell = element("td", "", words)
    cell.colSpan = 3
    table.append(element("tr", "inert", undefined, cell))
  }
  byId("faults").replaceChildren(faults.length ? table : element("p", "", LIVE ? "So far, nobody has caused a fault on purpose." : "The run had no planned faults."))
}

// A fault in words, with only the end of its path.
function shortWords(fault) {
  return fault.words.replace(/\/.*?(?= at | before | down for | from | with | for | as incarnation |$)/, (path) => {
    const parts = path.split("/")
    return parts.length > 3 ? `…/${parts.slice(-2).join("/")}` : path
  })
}

function faultCell(fault) {
  const cell = element("td", "", shortWords(fault))
  cell.title = fault.words
  const along = RUN.measures.faults[fault.index].took_along.length
  const where = fault.target >= 0 ? `${nameOf(processes[fault.target])} #${processes[fault.target].incarnation}` : fault.path
  const more = [
    where && fault.status === "applied" ? `→ ${where.split("/").slice(-2).join("/")}` : "", fault.why, along ? `blast radius ${along}` : ""]
  cell.append(element("div", "where", more.filter(Boolean).join(", ")))
  return cell
}

// The most affected paths, and the notes of the scenario.
function showPlaces() {
  const table = element("table", "", undefined,
    element("tr", "", undefined, element("th", "", "ended"), element("th", "", "place"), element("th", "", "back (longest)")))
  for (const { path, ended, median_back: median, longest_back: longest } of RUN.measures.paths) {
    const cell = element("td", "", path.split("/").slice(-2).join("/"))
    cell.title = path
    const back = median === null ? "never" : `${length(median)} (${length(longest)})`
    table.append(element("tr", "", undefined, element("td", "", ended), cell, element("td", "", back)))
  }
  byId("places").replaceChildren(RUN.measures.paths.length ? table : element("p", "", "All processes ended in order."))
  const own = notes.filter((note) => note.kind === "note" || WORST.has(note.kind))
  byId("notes").replaceChildren(...own.slice(0, 100).map((note) => {
    const line = element("p", "", note.words)
    line.prepend(element("b", "", `${at(note.time, 2)} `))
    line.onclick = () => setMoment(note.time, true)
    return line
  }))
  byId("notes").parentElement.hidden = own.length === 0
}

function showLegend() {
  const entries = [["▮", "box", "a process"], ["✕", "fault", "ended by a fault"], ["✕", "crash", "crashed without a fault"], ["▮", "again", "a replacement"], ["┄", "crash", "no process"], ["●", "crash", "message lost"]]
  byId("legend").replaceChildren(...entries.map(([sign, color, words]) => {
    const mark = element("b", "", sign)
    mark.style.color = `var(--${color})`
    return element("span", "", undefined, mark, ` ${words}`)
  }))
}
