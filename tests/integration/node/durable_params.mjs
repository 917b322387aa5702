// Print the payloads of joins that the channels of `durable` would send, with the published phoenix.js. The first channel
// has an object as parameters, the second one a function, the third one nothing.

import { Socket } from "phoenix"
import { durable } from "../../../channels/durable/static/durable.mjs"

const socket = new Socket("ws://localhost/socket", { transport: class {} })
let calls = 0
const channels = [
  durable(socket, "a", { token: "t" }),
  durable(socket, "b", () => ({ token: `t${calls++}` })),
  durable(socket, "c"),
]
const joins = () => channels.map((channel) => channel.joinPush.payload())
const before = joins()
for (const channel of channels) channel.onMessage("event", { _position: "p" })
console.log(JSON.stringify([before, joins()]))
