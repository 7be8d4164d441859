"""A small web application in a container's stead: reads JSON, validates it and renders a page.

It takes orders, a line each, and answers with a number: ``port`` is where it listens, ``cpu`` the
CPU seconds that it has used so far.
"""

import socket
import sys
import threading
import time
from decimal import Decimal
from html import escape
from pathlib import Path
from string import Template

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

_FOLDER = Path("/srv/shop")
_PAGE = Template(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>$title</title></head>\n'
    "<body><h1>$title</h1>\n<ul>\n$products\n</ul></body></html>\n"
)
_PRODUCT = Template("""<li class="product" id="product-$number">
  <h2><a href="/products/$number" title="$name">$name</a></h2>
  <p class="text">$text</p>
  <p class="price"><span class="amount">$price</span> <span class="currency">EUR</span></p>
  <ul class="tags">$tags</ul>
  <form method="post" action="/basket"><input type="hidden" name="number" value="$number">
  <button type="submit" aria-label="Put $name into the basket">Buy</button></form>
</li>""")
_TAG = Template('<li><a class="tag" href="/tags/$tag">$tag</a></li>')


class Product(BaseModel):
    """What is sold."""

    number: int = Field(ge=0)
    name: str = Field(min_length=1)
    text: str
    price: Decimal
    tags: list[str]


class Shelf(BaseModel):
    """What a page shows."""

    title: str
    products: list[Product]


application = FastAPI()


@application.get("/shelves/{number}", response_class=HTMLResponse)
def shelf(number: int) -> str:
    """A page of some tens of kilobytes."""
    found = Shelf.model_validate_json((_FOLDER / f"{number}.json").read_bytes())
    products = "\n".join(map(_rendered, found.products))
    return _PAGE.substitute(title=escape(found.title), products=products)


def _rendered(product: Product) -> str:
    return _PRODUCT.substitute(
        number=product.number,
        name=escape(product.name),
        text=escape(product.text),
        price=f"{product.price:.2f}",
        tags="".join(_TAG.substitute(tag=escape(tag)) for tag in product.tags),
    )


def _take_orders(server: uvicorn.Server, port: int) -> None:
    for order in sys.stdin:
        print(port if order.strip() == "port" else time.process_time(), flush=True)
    server.should_exit = True


def main() -> None:
    """Until the input ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    # The client comes back after other work.
    config = uvicorn.Config(application, log_level="warning", timeout_keep_alive=3600)
    server = uvicorn.Server(config)
    port = listening.getsockname()[1]
    threading.Thread(target=_take_orders, args=(server, port), daemon=True).start()
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
