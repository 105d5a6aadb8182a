"""The page in a real browser, without a screen, with real clicks: what a person sees and does.

The exchange and its page run in a thread of their own with an event loop; the test drives Chromium from outside, as a
person would. Without Chromium and its driver (Debian: chromium, chromium-driver) the tests are left out.
"""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from exchange.gateway.server import Server
from exchange.page.serving import Page
from exchange.wire.itch50 import AddOrder, OrderExecuted, StockTradingAction
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import PASSWORD, compile_once, connect
from tests.page_driver import HandMadeFeed, compile_tape, page_by_hand, page_of_exchange

webdriver = pytest.importorskip("selenium.webdriver")

from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no chromium or no chromedriver (chromium-driver)"
)
SECONDS_MAX = 60.0
PHONE = {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2, "mobile": True}}


class Person:
    """A window of the browser, and what a person can do with it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def go(self, url: str) -> None:
        """Open the page and wait until it is told something."""
        self.driver.get(url)
        self.until(lambda: self.text("link") == "live")

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until something holds."""
        wait = WebDriverWait(
            self.driver, SECONDS_MAX, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(lambda _: condition())

    def element(self, name: str) -> Any:
        """By its id."""
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        """Of an element, as it is shown."""
        return str(self.element(name).text)

    def rows(self, name: str) -> list[list[str]]:
        """Of a table's body, as they are shown."""
        script = "return [...document.getElementById(arguments[0]).rows].map(r => [...r.cells].map(c => c.innerText))"
        return [list(row) for row in self.driver.execute_script(script, name)]

    def levels(self) -> list[str]:
        """What the ladder tells somebody who cannot see it, from above."""
        script = (
            "return [...document.querySelectorAll('.level:enabled')].map(r => r.getAttribute('aria-label'))"
        )
        return list(self.driver.execute_script(script))

    def click_level(self, price: str) -> None:
        """Click a price of the ladder."""
        for level in self.driver.find_elements(By.CSS_SELECTOR, ".level:enabled"):
            if price in level.get_attribute("aria-label"):
                level.click()
                return
        raise AssertionError(f"{price} is not in {self.levels()}")

    def fill(self, name: str, text: str) -> None:
        """Write into a field."""
        field = self.element(name)
        field.clear()
        field.send_keys(text)

    def log_on(self, user: str, password: str = PASSWORD) -> None:
        """Fill in the form and send it."""
        self.fill("log-on-user", user)
        self.fill("log-on-password", password + Keys.ENTER)


@contextmanager
def window(**experimental: Any) -> Iterator[Person]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1440,1000",
    ):
        options.add_argument(argument)
    for name, value in experimental.items():
        options.add_experimental_option(name, value)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        person = Person(driver)
        yield person
        assert (
            person.driver.get_log("browser") == []
        )  # no error, and nothing that the security policy refused
    finally:
        driver.quit()


class Running(NamedTuple):
    """Something that runs in the thread, and how to have a coroutine run there."""

    page: Page
    other: Any
    call: Callable[[Any], Any]


@contextmanager
def in_thread(block: Callable[[], Any]) -> Iterator[Running]:
    """Enter an asynchronous context in a thread of its own, until this block is left."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), list[Any]()
    stop = asyncio.Event()

    async def live() -> None:
        async with block() as pair:
            found.extend(pair)
            ready.set()
            await stop.wait()

    def work() -> None:
        try:
            loop.run_until_complete(live())
        finally:
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    try:
        assert found, "it did not start"
        yield Running(
            *found, lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(SECONDS_MAX)
        )
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_a_person_trades_with_somebody_by_clicks() -> None:
    compile_once()
    compile_tape()
    with in_thread(lambda: page_of_exchange("alice", "bob")) as running, window() as person:
        server: Server = running.other
        person.go(running.page.url)
        bob = running.call(connect(server, "bob"))
        running.call(bob.place("AAPL", Side.SELL, 300, price_ticks=187_2550))
        running.call(bob.place("AAPL", Side.BUY, 200, price_ticks=187_2400))
        person.until(lambda: len(person.levels()) == 2)
        assert person.levels() == [
            "Offer 187.2550, 300 shares in 1 orders",
            "Bid 187.2400, 200 shares in 1 orders",
        ]

        person.log_on("alice", "wrong")
        person.until(lambda: "does not know this name" in person.text("message"))
        person.log_on("alice")
        person.until(lambda: person.text("user") == "ALICE")

        person.click_level("187.2550")
        assert person.element("order-price").get_attribute("value") == "187.2550"
        assert person.text("order-send") == "Buy 100 AAPL at 187.2550"
        person.element("order-send").click()
        person.until(lambda: [row[1:] for row in person.rows("tape")] == [["187.2550", "100"]])
        person.until(lambda: [row[1:] for row in person.rows("fills")] == [["AAPL", "187.2550", "100"]])
        assert person.rows("orders") == []

        person.fill("order-price", "187.2500")
        person.fill("order-quantity", "70")
        person.element("order-send").click()
        person.until(lambda: "Bid 187.2500, 70 shares in 1 orders, 70 of them yours" in person.levels())
        assert person.rows("orders")[0][:4] == ["Buy AAPL", "187.2500", "70", "0"]
        running.call(bob.place("AAPL", Side.SELL, 20, price_ticks=187_2500))
        person.until(lambda: person.rows("orders")[0][2:4] == ["50", "20"])
        printed = [["187.2500", "20"], ["187.2550", "100"]]
        person.until(lambda: [row[1:] for row in person.rows("tape")] == printed)

        person.driver.find_element(By.CSS_SELECTOR, "#orders button[aria-label^=Edit]").click()
        person.fill("order-price", "187.2300")
        person.element("order-send").click()
        person.until(lambda: person.rows("orders")[0][:3] == ["Buy AAPL", "187.2300", "50"])
        person.driver.find_element(By.CSS_SELECTOR, "#orders button[aria-label^=Cancel]").click()
        person.until(lambda: person.rows("orders") == [])
        person.until(lambda: not any("yours" in level for level in person.levels()))

        for name, text, told in (
            ("order-price", "1.23456", "four decimals"),
            ("order-quantity", "0", "1 to 999,999"),
        ):
            person.fill("order-price", "187")
            person.fill("order-quantity", "5")
            person.fill(name, text)
            person.element("order-send").click()
            person.until(lambda told=told: told in person.text("message"))
            assert person.element(name).get_attribute("aria-invalid") == "true"
        person.element("log-off").click()
        person.until(lambda: person.element("log-on").is_displayed())
        running.call(bob.close())


def hand_made_market(feed: HandMadeFeed) -> None:
    feed.open("AAPL", "MSFT")
    for level in range(12):
        feed.send(
            AddOrder(1, 0, 5, 2 * level + 1, "B", 100 * (level + 1), "AAPL", 187_2400 - 100 * level),
            AddOrder(1, 0, 5, 2 * level + 2, "S", 999_999, "AAPL", 187_2600 + 100 * level),
        )
    feed.send(*(OrderExecuted(1, 0, 6 + number, 2, 1, number) for number in range(60)))


def test_a_halt_is_told_in_a_banner_and_another_symbol_can_be_chosen() -> None:
    compile_tape()
    with in_thread(page_by_hand) as running, window() as person:
        feed: HandMadeFeed = running.other
        hand_made_market(feed)
        person.go(running.page.url)
        person.until(lambda: len(person.levels()) == 24)
        assert not person.element("halts").is_displayed()
        feed.send(StockTradingAction(2, 0, 10, "MSFT", "H", " ", "T1"))
        person.until(lambda: person.text("halts") == "MSFT halted")
        person.driver.find_elements(By.CSS_SELECTOR, "#symbols button")[1].send_keys(Keys.ENTER)
        person.until(lambda: person.text("state") == "halted" and person.levels() == [])
        feed.send(StockTradingAction(2, 0, 11, "MSFT", "T", " ", "T1"))
        person.until(lambda: person.text("state") == "trading")
        assert not person.element("halts").is_displayed()
        person.until(lambda: "no statistics" in person.element("latency").get_attribute("data-trouble"))


def test_a_page_that_ends_says_so_and_nothing_moves_sideways_on_a_phone() -> None:
    compile_tape()
    with window(mobileEmulation=PHONE) as person:
        with in_thread(page_by_hand) as running:
            hand_made_market(running.other)
            person.go(running.page.url)
            person.until(lambda: len(person.levels()) == 24 and len(person.rows("tape")) == 40)
            width = person.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
            assert width == [390, 390]
            too_wide = person.driver.execute_script(
                "return [...document.querySelectorAll('main *, header *')].filter(e => e.closest('.u-wrap') === null"
                " && e.getBoundingClientRect().right > innerWidth + 1 && getComputedStyle(e).clipPath === 'none')"
                ".map(e => e.outerHTML.slice(0, 80))"
            )
            assert too_wide == []
        person.until(lambda: person.text("link") == "connection lost")
        person.driver.get_log("browser")  # it says that it could not connect again
