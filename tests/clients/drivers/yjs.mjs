// y-phoenix-channel: documents of Yjs, and the awareness of their editors

import assert from "node:assert/strict"
import { Socket } from "phoenix"
import { PhoenixChannelProvider } from "y-phoenix-channel"
import * as Y from "yjs"
import { restart, run, url, WebSocket } from "./steps.mjs"

const DOCUMENT = `yjs:${process.pid}`

/** An editor of the document. Editors in one process would otherwise also talk through a BroadcastChannel. */
class Editor {
  doc = new Y.Doc()

  constructor() {
    this.socket = new Socket(`${url}/socket`, { transport: WebSocket })
    this.socket.connect()
    this.provider = new PhoenixChannelProvider(this.socket, DOCUMENT, this.doc, { disableBc: true })
    this.text = this.doc.getText("text")
  }

  write(words) {
    this.text.insert(this.text.length, words)
  }

  /** Wait until the editor has these words in its text. */
  async reads(words) {
    while (!this.text.toString().includes(words)) await new Promise((resolve) => this.doc.once("update", resolve))
  }
}

const until = (emitter, event, holds) =>
  new Promise((resolve) => {
    const check = () => {
      if (!holds()) return
      emitter.off(event, check)
      resolve()
    }
    emitter.on(event, check)
    check()
  })

const ann = new Editor()
const bob = new Editor()

await run({
  async join() {
    for (const { provider } of [ann, bob]) await until(provider, "status", () => provider.channel.state === "joined")
  },

  async edit() {
    ann.write("one")
    await bob.reads("one")
    bob.write(" two")
    await ann.reads("one two")
  },

  async "late editor"() {
    const carol = new Editor()
    await carol.reads("one two")
    assert.equal(carol.provider.synced, true)
    carol.provider.destroy()
  },

  async awareness() {
    ann.provider.awareness.setLocalStateField("name", "ann")
    const seen = () => bob.provider.awareness.getStates().get(ann.doc.clientID)?.name
    await until(bob.provider.awareness, "change", () => seen() === "ann")
  },

  async crash() {
    const crashed = new Promise((resolve) => ann.provider.channel.onError(resolve))
    // The channel has no handler for this event.
    ann.provider.channel.push("boom", {})
    await crashed
    ann.write(" three")
    await bob.reads("one two three")
  },

  async restart() {
    restart()
    await until(ann.provider, "status", () => !ann.socket.isConnected())
    ann.write(" four")
    bob.write(" five")
    await ann.reads(" five")
    await bob.reads(" four")
    assert.equal(ann.text.toString(), bob.text.toString())
  },

  async leave() {
    const closed = new Promise((resolve) => ann.socket.onMessage(({ event }) => event === "phx_close" && resolve()))
    ann.provider.destroy()
    await closed
  },
})
