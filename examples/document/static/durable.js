/** Make a channel that sends the position of its last message at each join, and so gets what it missed. */
export function durable(socket, topic, params = {}) {
  let position = null
  const channel = socket.channel(topic, () => ({ ...params, _position: position }))
  channel.onMessage = (event, payload) => {
    // A message has its position in itself, and the reply to a join in its response.
    position = payload?._position ?? payload?.response?._position ?? position
    return payload
  }
  return channel
}
