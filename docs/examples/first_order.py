"""Log on, buy a hundred shares, and print what the exchange says about it, for as long as it says something new."""

import asyncio
import os
import sys

from exchange.client import Client, Side


async def main(port: int, password: str) -> None:
    async with await Client.connect("127.0.0.1", port, "alice", password) as client:
        number = await client.place("AAPL", Side.BUY, 100, price_ticks=187_2500)
        await client.cancel(number)
        async for answer in client:
            print(type(answer).__name__, getattr(answer, "quantity", ""))
            if type(answer).__name__ == "OrderCanceled":
                break


asyncio.run(main(int(sys.argv[1]), os.environ["PASSWORD"]))
