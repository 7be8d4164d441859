"""Settings of the publication to Kubescape."""

from pathlib import Path

from pydantic import Field

from services.common.settings import CommonSettings

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubescapeSettings(CommonSettings):
    """Every field is the variable VEXSTREAM_<FIELD>. The defaults are those inside a pod."""

    kubernetes_url: str = Field(default="https://kubernetes.default.svc", pattern="^https?://")
    kubernetes_token_file: Path = _ACCOUNT / "token"
    """Read again for each request, for kubelet renews it; no token is sent where there is none."""
    kubernetes_ca_file: Path = _ACCOUNT / "ca.crt"
    kubernetes_timeout_seconds: float = Field(default=30, gt=0)
    kubescape_namespace: str = Field(
        default="kubescape", pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
    )
    """Where Kubescape keeps its own resources."""
