"""``python -m app``: serves on the port in the environment variable PORT."""
# mypy: disable-error-code="import-not-found, import-untyped"
# The libraries are in the image, not here.

import io
import os
from typing import Any

from flask import Flask, Response, render_template_string

PORT = int(os.environ.get("PORT", "8000"))
HOST = os.environ.get("HOST", "127.0.0.1")

PAGE = """<!doctype html>
<title>{{ title }}</title>
<h1>{{ title }}</h1>
<ul>
{% for path, text in routes %}<li><a href="{{ path }}">{{ path }}</a> {{ text }}</li>
{% endfor %}</ul>
"""
ROUTES = (
    ("/", "uses Flask, Jinja2 and Werkzeug"),
    ("/healthz", "says that the application runs"),
    ("/fetch", "imports Requests and asks this server how it is"),
    ("/thumbnail", "imports Pillow and draws a small picture"),
)


def index() -> Any:
    """The start page, through a template."""
    return render_template_string(PAGE, title="A shop window", routes=ROUTES)


def healthz() -> Any:
    """Whether the server runs."""
    return {"status": "ok"}


def fetch() -> Any:
    """One HTTP request with Requests, which nothing has imported before."""
    import requests

    answer = requests.get(f"http://{HOST}:{PORT}/healthz", timeout=5)
    return {"url": answer.url, "status": answer.status_code}


def thumbnail() -> Any:
    """One picture with Pillow, which nothing has imported before."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(picture).ellipse((32, 32, 224, 224), fill="navy")
    picture.thumbnail((64, 64))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return Response(content.getvalue(), mimetype="image/png")


def create_app() -> Any:
    """The application with its routes."""
    app = Flask("app")
    for path, view in zip(
        ("/", "/healthz", "/fetch", "/thumbnail"), (index, healthz, fetch, thumbnail), strict=True
    ):
        app.add_url_rule(path, view_func=view)
    return app


if __name__ == "__main__":
    # Threads, because /fetch asks this very server.
    create_app().run(HOST, PORT, threaded=True)
