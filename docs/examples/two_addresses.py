"""Log on to an exchange that is at one of two ports, buy a hundred shares, and say where that was."""

import asyncio
import os
import sys

from exchange.client import Client, LoginRefused, Side
from exchange.wire.ouch50 import OrderAccepted

PASSWORD = os.environ.get("PASSWORD", "")


# shown in the documentation
async def main(port: int, other: int) -> None:
    backups = [("127.0.0.1", other)]
    async with await Client.connect("127.0.0.1", port, "alice", PASSWORD, backups=backups) as client:
        await client.place("AAPL", Side.BUY, 100, price_ticks=187_2500)
        async for answer in client:
            if isinstance(answer, OrderAccepted):
                break
        print("accepted at port", client.address[1])


try:
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
except (LoginRefused, OSError) as error:
    sys.exit(f"{sys.argv[0]}: {error}")
