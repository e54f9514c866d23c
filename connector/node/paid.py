"""Being paid by name: the key of the addresses that payers are given, and the public listener."""

from __future__ import annotations

import asyncio
from typing import Final

from connector.base.errors import ConfigError
from connector.base.files import read_bounded, replace_private
from connector.base.randomness import Randomness
from connector.node.core import Core
from connector.settings.model import Settings
from connector.stream.tokens import KEY_BYTES, NONCE_BYTES
from connector.web.pay import PayApp, pay_url
from connector.web.server import WebServer

KEY_FILE: Final = "pay.key"
"""In DATA_DIR: hex."""


def pay_key(settings: Settings, randomness: Randomness) -> bytes | None:
    """The key of this node: PAY_SECRET, or that of DATA_DIR, made if there is none; None: no wallets.

    Raises:
        ConfigError: the file cannot be read or written, or is not a key.
    """
    if not settings.wallet_names:
        return None
    if settings.pay_secret is not None:
        return bytes.fromhex(settings.pay_secret.get_secret_value())
    path = settings.data_dir / KEY_FILE
    try:
        if not path.exists():
            replace_private(path, randomness.octets(KEY_BYTES).hex() + "\n")
        key = bytes.fromhex(read_bounded(path, 4 * KEY_BYTES).decode("ascii").strip())
    except OSError as error:
        raise ConfigError([f"{path}: cannot be used: {error.strerror or error}"]) from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(
            [f"{path} is not a key of {2 * KEY_BYTES} hex digits: put the right one back"]
        )
    return key


class PayListener:
    """The public listener for payment pointers."""

    def __init__(self, core: Core) -> None:
        self.url = ""
        """What payment pointers resolve to, once started; empty: nobody is paid here by name."""
        self._core: Final = core
        self._server: WebServer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, group: asyncio.TaskGroup) -> int:
        """Serve in a task of `group`; returns the port, or 0 if there are no wallets.

        Raises:
            ListenError: the port cannot be used.
        """
        core = self._core
        settings, wallets = core.settings, core.wallets
        if wallets is None:
            return 0
        assert settings.pay_port is not None
        octets = core.platform.randomness.octets
        server = self._server = WebServer(
            PayApp(wallets.wallets, lambda name: wallets.invite(name, octets(NONCE_BYTES))),
            settings.pay_host,
            settings.pay_port,
            setting="PAY",
        )
        port = server.bind()
        self.url = pay_url(settings.pay_url, settings.pay_host, port)
        self._serving = group.create_task(server.run())
        await server.started()
        core.log.info("pay_listener_started", url=self.url, wallets=len(wallets.wallets))
        return port

    async def stop(self) -> None:
        """Stop serving. Safe to call when it was never started."""
        if self._server is not None and self._serving is not None:
            self._server.stop()
            await self._serving
