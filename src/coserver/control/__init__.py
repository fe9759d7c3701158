"""The verbs, once: arguments, effect and answer; the server and the client that carry them."""
