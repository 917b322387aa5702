"""Which cases of Phoenix's own tests can be asked of another server.

There are 219 of the 234 about channels, and 80 of the 83 about PubSub and its tracker. The others are about Elixir, or
about what serves pages. Those are in the tables as well; a test covers some of them. Numbers are those of the lines on
which they begin, in Phoenix 1.8.12 and Phoenix.PubSub 2.2.0.
"""

TOTAL = 234 + 83
PORTABLE_TOTAL = 219 + 80
COVERED_AT_LEAST = 220 + 72

PORTABLE = {
    "channel_test": """
        L12 L55 L98 L115 L135 L155
    """,
    "test/channel_test": """
        L189 L198 L209 L229 L250 L262 L267 L275 L281 L288 L299 L305 L312 L322 L335 L353 L359 L366
        L380 L402 L409 L423 L429 L448 L459 L468 L474 L482 L487 L496 L510 L523 L550 L556 L566 L572
    """,
    "socket/socket_test": """
        L18 L26 L31 L51 L60 L68 L76 L84 L113 L125 L136 L144
    """,
    "socket/message_test": """
        L8 L24 L40
    """,
    "socket/v1_json_serializer_test": """
        L23 L35 L47 L52 L60
    """,
    "socket/v2_json_serializer_test": """
        L91 L96 L101 L114 L119 L124 L130 L157 L189 L199 L211 L219 L239
    """,
    "socket/transport_test": """
        L67 L71 L78 L89 L104 L124 L129 L149 L157 L173 L179 L213 L229 L242 L278 L282 L288 L294 L300
        L313 L327 L363 L376
    """,
    "integration/websocket_channels_test": """
        L254 L273 L329 L370 L400 L419 L448 L477 L497 L523 L546 L594 L610 L623 L632 L670 L696 L723
        L738 L752 L757 L762 L802 L823 L833 L848 L884 L928
    """,
    "integration/websocket_socket_test": """
        L121 L129 L141 L156 L162 L169 L175 L180 L190
    """,
    "integration/long_poll_channels_test": """
        L361 L398 L459 L475 L494 L510 L535 L596 L613 L710 L723 L745 L786 L794 L804 L821 L852 L890
        L919 L932
    """,
    "integration/long_poll_socket_test": """
        L125 L135 L149 L164 L175 L191 L196
    """,
    "integration/endpoint_test": "",
    "presence_test": """
        L89 L94 L106 L113 L128 L160 L192 L226 L251 L270 L274 L292 L296 L301 L309 L325 L349 L375 L400
        L428
    """,
    "token_test": """
        L17 L24 L30 L40 L44 L54 L68 L73 L81 L87 L93 L109 L116 L122 L128 L132 L142 L156 L161 L171
        L177
    """,
    "debug_test": """
        L48 L59 L63 L69 L73 L79 L88 L94 L98
    """,
    "logger_test": """
        L6 L16 L23 L51 L61 L68 L75
    """,
    "pubsub/shared/pubsub_test": """
        L60 L66 L76 L86 L99 L110 L116 L127 L138 L146 L154
    """,
    "pubsub/pubsub_test": """
        L5 L12
    """,
    "pubsub/distributed_pubsub_test": """
        L15 L28 L38 L52 L60
    """,
    "pubsub/tracker_test": "",
    "pubsub/tracker/clock_test": """
        L5 L15 L30 L38 L46 L53
    """,
    "pubsub/tracker/replica_test": """
        L5 L15 L19 L29 L44 L55 L66
    """,
    "pubsub/tracker/state_test": """
        L27 L33 L42 L112 L146 L168 L198 L215 L232 L287 L310 L338 L348 L368 L392
    """,
    "pubsub/tracker/delta_generation_test": """
        L26 L89 L102 L113 L125 L136 L157
    """,
    "pubsub/tracker/shard_test": """
        L5 L11
    """,
    "pubsub/tracker/pool_test": """
        L14 L23 L38 L52 L66 L91 L118
    """,
    "pubsub/tracker/shard_replication_test": """
        L24 L33 L54 L99 L131 L188 L231 L261 L266 L282 L296 L307 L318 L322 L335 L354 L393 L400
    """,
}
