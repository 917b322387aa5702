// What lies between "it broke" and "it works again": which step was reached, and when.
// Knows nothing of the page and nothing of phoenix.js.

/** The steps of each kind of trouble, in the order in which they come. */
export const STEPS = {
  crash: ["crash", "error", "join", "joined"],
  away: ["lost", "open", "join", "joined"],
}

/** One trouble at a time; `onChange` is called with it whenever it moves. */
export class Recovery {
  constructor(onChange, now = () => performance.now()) {
    this.onChange = onChange
    this.now = now
    this.trouble = null
    this.past = 0
  }

  /** Start the clock of a new trouble at its first step. */
  begin(kind, step) {
    this.trouble = { kind, at: {}, tries: 0, process: null, over: false }
    this.reach(step)
  }

  /** Note that a step was reached. The first time counts; without a trouble nothing is noted. */
  reach(step, process = null) {
    const { trouble } = this
    if (step === "error" && (!trouble || trouble.over)) {
      this.begin("crash", "crash") // it died without anybody pressing the button
      this.reach("error")
      return
    }
    if (!trouble || trouble.over || !STEPS[trouble.kind].includes(step)) return
    trouble.at[step] ??= this.now()
    trouble.process = process
    trouble.over = step === "joined"
    this.onChange(trouble)
  }

  /** Note that an attempt to connect came to nothing. */
  failedTry() {
    const { trouble } = this
    if (!trouble || trouble.over || trouble.kind !== "away") return
    trouble.tries += 1
    this.onChange(trouble)
  }
}
