"""Log on, buy a hundred shares, take the order back, and print what the exchange says."""

import asyncio
import os
import sys

from exchange.client import Client, LoginRefused, Side
from exchange.wire.ouch50 import OrderCanceled

PASSWORD = os.environ.get("PASSWORD", "")


# shown in the documentation
async def main(port: int) -> None:
    async with await Client.connect("127.0.0.1", port, "alice", PASSWORD) as client:
        number = await client.place("AAPL", Side.BUY, 100, price_ticks=187_2500)
        await client.cancel(number)
        async for answer in client:
            print(type(answer).__name__, getattr(answer, "quantity", "-"))
            if isinstance(answer, OrderCanceled):
                break


try:
    asyncio.run(main(int(sys.argv[1])))
except (LoginRefused, OSError) as error:
    sys.exit(f"{sys.argv[0]}: {error}")
