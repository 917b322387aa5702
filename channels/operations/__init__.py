"""Parts for the operation of a server: health probes, metrics, tracing, logs as JSON.

Import each part from its own module, such as `channels.operations.health`. `import channels` loads none of these
modules.
"""
