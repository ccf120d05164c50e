"""Who is alive, what each node should run, what it reports. Leader only; must not know how a call travelled."""

from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.dispatcher.handlers import handlers
from swarmd.manager.dispatcher.local_link import LocalLink

__all__ = ["Dispatcher", "LocalLink", "handlers"]
