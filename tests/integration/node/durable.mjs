/** Make a channel that gets what it missed: it sends the position of its last message at each join. */
export function durable(socket, topic, params = {}) {
  let position = null
  const channel = socket.channel(topic, () => ({ ...params, _position: position }))
  channel.onMessage = (event, payload) => {
    // A message has its position in itself, and the reply to a join in its response.
    position = payload?._position ?? payload?.response?._position ?? position
    return payload
  }
  // With a key, a push that is repeated gets the first answer.
  const push = channel.push.bind(channel)
  channel.push = (event, payload = {}, timeout) =>
    push(event, payload.constructor === Object ? { _key: crypto.randomUUID(), ...payload } : payload, timeout)
  return channel
}
