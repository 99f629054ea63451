"""The application of app.py, with a server that lets the host leave before it stops listening: `python leaving.py`."""

import asyncio
import os
import signal
import socket
from types import FrameType

import uvicorn
from app import app, host


class Server(uvicorn.Server):
    """uvicorn, with its exit put off until the host has left; a second signal puts off nothing."""

    leaving = False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.leaving:
            super().handle_exit(sig, frame)
        else:
            self.leaving = True
            asyncio.run_coroutine_threadsafe(self.leave(), self.loop)

    async def leave(self) -> None:
        await host.leave(listening=True)  # not ready, then refuse, then drain, as [plugins.shutdown] says
        super().handle_exit(signal.SIGTERM, None)


if __name__ == "__main__":
    Server(uvicorn.Config(app, port=int(os.environ.get("PORT", "8000")))).run()
