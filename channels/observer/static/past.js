// The timeline: a frame with the viewer of recorded runs. The server sends the data in parts. The page asks for the next
// part when the viewer has drawn one. While the user has stopped the timeline, the page asks for nothing.

import { clock, duration } from "./story.js"

const PATIENCE = 4000 // milliseconds without a part until the timeline counts as stale

export class Past {
  // `byId` finds the elements, `ask` sends a payload to the server, `theme` returns light or dark, `leave` shows the tree.
  constructor({ byId, ask, theme, leave }) {
    this.byId = byId
    this.ask = ask
    this.theme = theme
    this.leave = leave
    this.shown = false
    this.viewer = null
    this.isStopped = false
    this.isOwed = false // or "next" or "anew": what to ask for when the user goes on
    this.heard = null // the time of the last part, in milliseconds since the page was loaded
    this.moment = null // the time of the last part, in milliseconds since the epoch
    this.problem = null
    byId("frame").onload = () => this.loaded()
    byId("follow").onclick = () => this.stop(!this.isStopped)
    setInterval(() => this.say(), 500)
  }

  show(on) {
    this.shown = on
    this.viewer = this.problem = this.heard = null
    this.isStopped = this.isOwed = false
    this.byId("frame").src = on ? "live" : "about:blank"
    if (!on) this.ask({ on: false })
    this.say()
  }

  loaded() {
    this.viewer = this.shown ? (this.byId("frame").contentWindow.timeline ?? null) : null
    if (this.viewer === null) return
    this.viewer.theme(this.theme())
    this.viewer.onStop = () => this.stop(true)
    this.viewer.onKey = (key) => (key === " " ? this.stop(!this.isStopped) : this.leave())
    this.ask({ on: true })
  }

  // The channel has joined again, perhaps to a restarted program, so the timeline begins anew.
  rejoined() {
    if (this.viewer !== null && !this.isStopped) this.ask({ on: true })
    else if (this.viewer !== null) this.isOwed = "anew"
  }

  take(part) {
    if (this.viewer === null) return
    if (part.problem) this.problem = part.problem
    else {
      this.heard = performance.now()
      this.moment = Date.now()
      this.viewer.take(part)
      if (this.isStopped) this.isOwed ||= "next"
      else this.ask({ drawn: true })
    }
    this.say()
  }

  stop(on) {
    if (this.viewer === null || this.problem !== null) return
    this.isStopped = on
    if (!on) {
      if (this.isOwed) this.ask(this.isOwed === "anew" ? { on: true } : { drawn: true })
      this.isOwed = false
      this.heard = performance.now()
    }
    this.viewer.follow(!on)
    this.say()
  }

  say() {
    if (!this.shown) return
    const place = this.byId("followed")
    const [name, words] = this.state()
    place.className = name
    if (place.textContent !== words) place.textContent = words
    const button = this.byId("follow")
    button.textContent = this.isStopped ? "Go on to live" : "Stop"
    button.setAttribute("aria-pressed", String(this.isStopped))
    button.disabled = this.problem !== null || this.heard === null
  }

  state() {
    if (this.problem !== null) return ["lost", this.problem]
    if (this.heard === null) return ["waiting", "Reading the records"]
    if (this.isStopped) {
      const behind = (Date.now() - this.moment) / 1000
      return ["stopped", `Stopped at ${clock(this.moment / 1000)}, ${duration(behind)} ago. What happened after that is not shown.`]
    }
    const silent = performance.now() - this.heard
    if (silent > PATIENCE) return ["lost", `Stale: no records for ${duration(silent / 1000)}. The timeline ends at ${clock(this.moment / 1000)}.`]
    return ["live", "Live: the timeline follows the program. Drag the timeline to stop it and look back."]
  }
}
