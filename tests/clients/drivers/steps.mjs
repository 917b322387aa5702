// The part that all drivers in Node share. A driver gets the URL of the server, its package, and the names of the steps
// to do. It prints the name of each step that held. The first exception ends it.

import WebSocket from "ws"

const [, , url, library, ...names] = process.argv

export { library, url, WebSocket }

/** Do the named steps, in their order. */
export const run = async (steps) => {
  for (const name of names) {
    await steps[name]()
    console.log(`> ${name}`)
  }
  process.exit(0)
}

/** Ask for a restart of the server. A driver first prepares to see what the client does then. */
export const restart = () => console.log("! restart")

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000))

/** Values in the order of their arrival. `next()` waits for one. */
export class Arrivals {
  values = []
  #waiting = []

  put = (value) => {
    if (this.#waiting.length > 0) this.#waiting.shift()(value)
    else this.values.push(value)
  }

  next() {
    if (this.values.length > 0) return this.values.shift()
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}

/** Wait for the answer to a push of phoenix.js, which must have this status. */
export const answer = (push, expected = "ok") =>
  new Promise((resolve, reject) => {
    for (const status of ["ok", "error", "timeout"]) {
      push.receive(status, (response) => {
        if (status === expected) resolve(response)
        else reject(new Error(`the answer is ${status} with ${JSON.stringify(response)}, and not ${expected}`))
      })
    }
  })
