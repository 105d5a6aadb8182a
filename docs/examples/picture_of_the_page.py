"""Make the picture in ``docs/live-page.md``: an exchange, a synthetic flow of two clients, a person who trades.

``python docs/examples/picture_of_the_page.py`` needs Chromium, its driver and selenium. It starts an exchange with its
page in a folder of its own, has ``exchange load`` trade there, logs a person on, places two orders by clicks, and
writes ``docs/images/live-page.png``. Nothing in it is of a real market.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "live-page.png"
PORT, PAGE_PORT = 19105, 18105
SETTINGS = ("market_data.port=19106", "market_data.request_port=19107", "market_data.glimpse=none")
LOAD_SECONDS = 90
SECONDS_MAX = 600
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "SECRET": "hunter2"}


def command(*arguments: str) -> list[str]:
    """An ``exchange`` command."""
    return [sys.executable, "-m", "exchange", *arguments]


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[None]:
    """A command in the background, ended with the block."""
    process = subprocess.Popen(command(*arguments), cwd=folder, env=ENVIRONMENT)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def log_on(driver: webdriver.Chrome) -> None:
    """Wait for a market, and log on."""
    wait = WebDriverWait(driver, SECONDS_MAX)
    wait.until(lambda _: len(driver.find_elements(By.CSS_SELECTOR, ".level:enabled")) == 24)
    driver.find_element(By.ID, "log-on-user").send_keys("carol")
    driver.find_element(By.ID, "log-on-password").send_keys("hunter2" + Keys.ENTER)
    wait.until(lambda _: driver.find_element(By.ID, "order").is_displayed())


def trade(driver: webdriver.Chrome) -> None:
    """Place an order on each side of the market."""
    for side, row, quantity in (("buy", ".level.bid", 250), ("sell", ".level.ask", 400)):
        levels = driver.find_elements(By.CSS_SELECTOR, f"{row}:enabled")
        levels[
            -3 if side == "buy" else 2
        ].click()  # far from the middle, so that it is still there in the picture
        driver.find_element(By.CSS_SELECTOR, f".sides .{side} span").click()
        shares = driver.find_element(By.ID, "order-quantity")
        shares.clear()
        shares.send_keys(str(quantity))
        driver.find_element(By.ID, "order-send").click()


def main() -> None:
    """Make the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for user in ("alice", "bob", "carol"):
            add = command("user", "add", user, "--password-env", "SECRET")
            subprocess.run(add, cwd=folder, env=ENVIRONMENT, check=True)
        sets = [part for one in SETTINGS for part in ("--set", one)]
        page = f"127.0.0.1:{PAGE_PORT}"
        load = (
            "load",
            f"127.0.0.1:{PORT}",
            "--users",
            "alice,bob",
            "--password-env",
            "SECRET",
            "--rate",
            "400",
        )
        more = ("--orders", "400", "--seconds", str(LOAD_SECONDS), "--symbols", "AAPL,MSFT,NVDA")
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
            options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
        size = {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        with running(folder, "serve", "--quiet", "--port", str(PORT), *sets, "--page", page):
            wait_for(lambda: socket.create_connection(("127.0.0.1", PORT)).close())
            wait_for(lambda: driver.get(f"http://{page}"))
            with running(folder, *load, *more, "--price-ticks", "1872500"):
                log_on(driver)
                time.sleep(LOAD_SECONDS / 2)
                trade(driver)
                time.sleep(1.0)
                driver.save_screenshot(str(PICTURE))
        driver.quit()


def wait_for(attempt: Callable[[], None]) -> None:
    """Do something as soon as it can be done: the first start compiles."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return attempt()
        except (OSError, WebDriverException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
