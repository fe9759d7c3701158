"""Bytes to messages and back, without I/O: whoever owns a socket feeds bytes in and sends bytes out."""
