"""WebSockets."""

#: The channel layer of all consumers: none. They are told everything by the gateway of their process, and a Redis that
#: goes away must not close sockets that need nothing of it.
NO_LAYER = "none"
