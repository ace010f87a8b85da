"""Between the wire and the core: the only place that knows both.

Decoding is strict. What is malformed raises `BadRequest` with the path of the field as the .proto names it, the value,
and the fix; nothing is guessed and nothing is cut to size.
"""
