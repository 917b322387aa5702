// The channels of the other tabs, as their messages show them. Knows nothing of the page and nothing of phoenix.js.

/** Other channels that spoke before this tab's channel crashed, and that speak again after it. */
export class Others {
  /** `onChange` is called with `{ process, name, heard }` of one other channel, or with null. */
  constructor(onChange) {
    this.onChange = onChange
    this.names = new Map() // by process
    this.last = null
    this.before = null
    this.heard = new Map()
  }

  /** A message of another tab has arrived. */
  spoke({ process, name }) {
    this.names.set(process, name)
    this.last = process
    if (!this.before?.has(process)) return
    this.heard.set(process, (this.heard.get(process) ?? 0) + 1)
    this.#tell(process)
  }

  /** The channel of this tab has crashed. */
  crashed() {
    this.before = new Set(this.names.keys())
    this.heard.clear()
    this.#tell(this.last)
  }

  /** The server is gone, and all channels with it. */
  forget() {
    this.names.clear()
    this.last = this.before = null
    this.onChange(null)
  }

  #tell(process) {
    const name = this.names.get(process)
    this.onChange(process === null ? null : { process, name, heard: this.heard.get(process) ?? 0 })
  }
}
