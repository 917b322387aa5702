// Helpers for pages that use phoenix.js with durable topics of Ashtree. See the guide "Lose no message".

/**
 * Make a channel that sends the position of its last message at each join, and so gets what it missed.
 *
 * The parameters are an object or a function that returns one, as for `socket.channel`. A function is called at each
 * join.
 */
export function durable(socket, topic, params = {}) {
  let position = null
  const current = () => (typeof params === "function" ? params() : params)
  const channel = socket.channel(topic, () => ({ ...current(), _position: position }))
  channel.onMessage = (event, payload) => {
    // A message has its position in itself, and the reply to a join in its response.
    position = payload?._position ?? payload?.response?._position ?? position
    return payload
  }
  return channel
}

/** Push until the server has answered, over lost connections and restarts. The server handles the push once. */
export function pushUntilAnswered(channel, event, payload, timeout) {
  const keyed = { ...payload, _key: crypto.randomUUID() }
  return new Promise((resolve, reject) => {
    const attempt = () =>
      channel.push(event, keyed, timeout).receive("ok", resolve).receive("error", reject).receive("timeout", attempt)
    attempt()
  })
}
