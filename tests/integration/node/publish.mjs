// Publishes one event to every node, from a program that knows nothing of Ashtree.
import { createClient } from "redis"

const client = createClient({ url: process.argv[2] })
await client.connect()
const header = [1, "node", "", 0, "news", "told"]
const payload = { from: "node" }
await client.publish("ashtree:0", `${JSON.stringify(header)}\n${JSON.stringify(payload)}`)
await client.close()
