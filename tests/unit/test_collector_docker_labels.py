"""Whose a container is, by labels that anyone may have written."""

from pathlib import Path
from typing import Any

import pytest

from services.collector.docker import DockerRuntime
from services.collector.docker_labels import workload
from vexstream.identity import Workload

SHOP = {"com.docker.compose.project": "shop", "com.docker.compose.service": "cart"}
POD = {
    "io.kubernetes.container.name": "app",
    "io.kubernetes.pod.name": "cart-0",
    "io.kubernetes.pod.namespace": "shop",
}
CART = Workload("shop", "cart", "cart")


def _own(name: str) -> Workload:
    return Workload("", name, name)


@pytest.mark.parametrize("name", ["shop-cart-1", "shop_cart_12", "shop-cart-run-0f3a"])
@pytest.mark.parametrize("brought", [None, {}, SHOP], ids=["unknown", "none", "the same"])
def test_composes_own_names_prove_its_labels(name: str, brought: dict[str, str] | None) -> None:
    assert workload(SHOP, name, brought) == CART


@pytest.mark.parametrize(
    ("brought", "whose"),
    [
        (None, _own("till")),
        ({}, CART),
        ({"maintainer": "a"}, CART),
        (SHOP, _own("till")),
        ({"com.docker.compose.project": "shop"}, _own("till")),
        ({"com.docker.compose.project": "else"}, CART),
    ],
    ids=["unknown", "none", "others", "the same", "one of them", "replaced"],
)
def test_by_a_name_of_its_own_they_must_not_be_the_images(
    brought: dict[str, str] | None, whose: Workload
) -> None:
    """``docker commit`` of a service's container: what is run of that image is not the service."""
    assert workload(SHOP, "till", brought) == whose


@pytest.mark.parametrize("name", ["shop-cart", "shop-cart-1-1", "xshop-cart-1", "shop-cart-run-x"])
def test_a_name_that_only_looks_like_composes_proves_nothing(name: str) -> None:
    assert workload(SHOP, name) == _own(name)


@pytest.mark.parametrize("written", ["True", "true"])
def test_what_is_run_beside_a_service_does_not_speak_for_it(written: str) -> None:
    once = SHOP | {"com.docker.compose.oneoff": written}
    assert workload(once, "shop-cart-run-0f3a") == Workload("shop", "cart", "cart:run")
    always = SHOP | {"com.docker.compose.oneoff": "False"}
    assert workload(always, "shop-cart-1") == CART


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("k8s_app_cart-0_shop_1-2-3_0", Workload("shop", "cart-0", "app")),
        ("k8s_app_cart-1_shop_1-2-3_0", _own("k8s_app_cart-1_shop_1-2-3_0")),
        ("cart", _own("cart")),
    ],
)
def test_a_pod_is_proven_by_the_name_that_kubernetes_gives(name: str, whose: Workload) -> None:
    assert workload(POD, name, {}) == whose
    assert workload({}, name, {}) == _own(name)


@pytest.mark.parametrize("brought", [SHOP, None], ids=["the image's", "gone"])
async def test_the_engine_is_asked_what_the_image_brings(
    monkeypatch: pytest.MonkeyPatch, brought: dict[str, str] | None
) -> None:
    image = "sha256:" + "4" * 64
    answers: dict[str, Any] = {
        "/containers/c/json": {
            "Id": "c", "Image": image, "Name": "/till", "Created": "2026-11-25T19:03:23Z",
            "State": {"Pid": 0}, "Config": {"Image": "app:1", "Labels": SHOP},
        },
        f"/images/{image}/json": brought and {"Id": image, "Config": {"Labels": brought}},
        "/info": {},
    }  # fmt: skip
    runtime = DockerRuntime("docker", "unix:///nowhere", Path("/nowhere"))
    monkeypatch.setattr(runtime, "_ask", answers.get)
    info = await runtime.describe("c")
    assert info is not None
    assert (info.workload, info.image.config_digest) == (_own("till"), image)
    if brought:
        answers[f"/images/{image}/json"]["Config"]["Labels"] = None
        info = await runtime.describe("c")
        assert info is not None
        assert info.workload == CART
