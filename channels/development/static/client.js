// A small client of Phoenix's protocol, version 2.0.0. It reports each frame, and does not depend on the page.

const RETRIES = [250, 500, 1000, 2000]
const REJOIN = 1000
const HEARTBEAT = 30_000

/** One WebSocket and its joined topics. After a lost connection, the client connects and joins these topics again. */
export class Client {
  /** `onFrame(way, frame)` gets each frame as an array. `onState(state, words)` gets each new connection state. */
  constructor({ onFrame, onState }) {
    this.onFrame = onFrame
    this.onState = onState
    this.topics = new Map() // topic -> { payload, joinRef }
    this.socket = null
    this.ref = 0
    this.tries = 0
    this.wanted = false
  }

  connect(url, protocols = []) {
    this.disconnect()
    this.url = url
    this.protocols = protocols
    this.wanted = true
    this.#open()
  }

  disconnect() {
    this.wanted = false
    clearTimeout(this.retry)
    this.#forget()
    this.topics.clear()
    this.onState("closed", "Not connected")
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN
  }

  join(topic, payload) {
    this.topics.set(topic, { payload, joinRef: null })
    if (this.isOpen) this.#join(topic)
  }

  leave(topic) {
    const membership = this.topics.get(topic)
    if (!membership) return false
    this.topics.delete(topic)
    this.#send(membership.joinRef, topic, "phx_leave", {})
    return true
  }

  /** Return false if the topic was not joined. */
  push(topic, event, payload) {
    const joinRef = this.topics.get(topic)?.joinRef
    if (!joinRef || !this.isOpen) return false
    this.#send(joinRef, topic, event, payload)
    return true
  }

  #open() {
    this.onState("lost", "Connecting")
    const socket = new WebSocket(this.url, this.protocols)
    this.socket = socket
    socket.binaryType = "arraybuffer"
    socket.onopen = () => {
      this.tries = 0
      this.onState("open", "Connected")
      this.beat = setInterval(() => this.#send(null, "phoenix", "heartbeat", {}), HEARTBEAT)
      for (const topic of this.topics.keys()) this.#join(topic)
    }
    socket.onmessage = ({ data }) => this.#receive(data)
    socket.onclose = ({ code, reason }) => {
      if (this.socket !== socket) return
      this.#forget()
      this.onState("lost", `Closed with ${code}${reason ? `, ${reason}` : ""}`)
      if (this.wanted) this.#retry()
    }
  }

  #retry() {
    const wait = RETRIES[Math.min(this.tries, RETRIES.length - 1)]
    this.tries += 1
    this.retry = setTimeout(() => this.#open(), wait)
  }

  #forget() {
    clearInterval(this.beat)
    const { socket } = this
    this.socket = null
    for (const membership of this.topics.values()) membership.joinRef = null
    socket?.close()
  }

  #join(topic) {
    const membership = this.topics.get(topic)
    if (!membership || !this.isOpen) return
    membership.joinRef = String(++this.ref)
    this.#send(membership.joinRef, topic, "phx_join", membership.payload, membership.joinRef)
  }

  #send(joinRef, topic, event, payload, ref = String(++this.ref)) {
    if (!this.isOpen) return
    const frame = [joinRef, ref, topic, event, payload]
    this.socket.send(JSON.stringify(frame))
    this.onFrame("out", frame)
  }

  #receive(data) {
    if (typeof data !== "string") {
      this.onFrame("in", [null, null, "", "binary", `${data.byteLength} bytes`])
      return
    }
    const frame = JSON.parse(data)
    const [joinRef, , topic, event, payload] = frame
    this.onFrame("in", frame)
    const membership = this.topics.get(topic)
    if (!membership || joinRef !== membership.joinRef) return
    if (event === "phx_error") {
      membership.joinRef = null
      setTimeout(() => this.#join(topic), REJOIN) // phoenix.js also waits before it joins again
    } else if (event === "phx_close") {
      this.topics.delete(topic)
    } else if (event === "phx_reply" && payload.status === "error" && frame[1] === joinRef) {
      this.topics.delete(topic) // the server refused the join
    }
  }
}
