"""What nodes say: messages, the method table, the codec, frames. Must not know sockets, or who leads."""

from swarmd.wire.codec import convert, decode, encode, loads
from swarmd.wire.frames import Headers, Hello
from swarmd.wire.identity import Caller, ForwardedCaller, Identity
from swarmd.wire.methods import METHODS, Method, Serves, Shape

__all__ = [
    "METHODS",
    "Caller",
    "ForwardedCaller",
    "Headers",
    "Hello",
    "Identity",
    "Method",
    "Serves",
    "Shape",
    "convert",
    "decode",
    "encode",
    "loads",
]
