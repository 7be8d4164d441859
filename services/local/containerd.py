"""A private containerd with its Kubernetes interface (CRI), and containers started as kubelet does.

Everything lives in one state folder; the daemon has a mount namespace of its own, so that no mount
is seen outside and all end with it. Containers use the host's network: no CNI plug-in is called.
Several instances can run side by side, and beside the machine's own containerd.
"""

import contextlib
import fcntl
import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import grpc
from cri_api.v1 import api_pb2 as cri
from cri_api.v1 import api_pb2_grpc

from services.local import containerd_cgroups, containerd_setup
from services.local.containerd_pods import Mount, container_config, pod_config
from services.local.image import PAUSE, pause_image
from services.local.process import Daemon, DaemonError, LocalError
from vexstream.identity import Digest, parse_digest

_services: Any = api_pb2_grpc
"""Generated code without types."""

NAMESPACE = "k8s.io"
"""containerd's, in which its CRI keeps images and containers."""

_START_SECONDS = 180.0
_CALL_SECONDS = 180.0
_MAX_MESSAGE_BYTES = 64 << 20
_MAX_SOCKET_PATH = 100
"""Linux takes 107 bytes; containerd adds ``.ttrpc``."""


class ContainerdError(LocalError):
    """containerd refused something, or could not be started."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container in a pod."""

    id: str
    pod_id: str
    pod_uid: str
    namespace: str
    name: str
    image: str
    log: Path


class ExecResult(NamedTuple):
    """What a command inside a container gave back."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class ImageDigests(NamedTuple):
    """The digests containerd knows an image by."""

    config: Digest
    manifests: tuple[Digest, ...]


class Containerd:
    """A containerd of our own while the block runs; afterwards nothing of it is left."""

    def __init__(self, state: Path, *, cache: Path, remove_state: bool = False) -> None:
        """``state`` is a folder with a short path; ``cache`` keeps the pause image."""
        self.state = state.absolute()
        self._cache = cache
        self._remove_state = remove_state
        self._socket = self.state / "containerd.sock"
        self._daemon: Daemon | None = None
        self._channel: grpc.Channel | None = None
        self._pod_uids: set[str] = set()
        self._lock: IO[str] | None = None

    @property
    def endpoint(self) -> str:
        """Where the CRI (and containerd's own API) listens."""
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Starts containerd and waits until its CRI answers; cleans up after itself if it cannot.

        Raises:
            MissingPrerequisiteError: what the machine lacks.
            ContainerdError: it does not start; the text ends with its log.
        """
        containerd_setup.require_prerequisites()
        if len(str(self._socket)) > _MAX_SOCKET_PATH:
            raise ContainerdError(f"{self.state} is too long for a socket: choose a shorter folder")
        self._claim_state()
        try:
            self._start_daemon()
            self.import_image(pause_image(self._cache).path, PAUSE)
        except DaemonError as error:
            self.close()
            raise ContainerdError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def _claim_state(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        lock = (self.state / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise ContainerdError(f"another containerd runs in {self.state}: stop it") from error
        self._lock = lock

    def _start_daemon(self) -> None:
        self._daemon = containerd_setup.daemon(self.state, self._socket)
        self._daemon.start()
        self._channel = grpc.insecure_channel(
            self.endpoint, options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
        )
        self._daemon.wait_ready(self._ready, _START_SECONDS)

    def _ready(self) -> bool:
        if not self._socket.exists():
            return False
        try:
            status = self._runtime.Status(cri.StatusRequest(), timeout=1).status
        except grpc.RpcError:
            return False
        return any(one.type == "RuntimeReady" and one.status for one in status.conditions)

    def close(self) -> None:
        """Ends every pod and the daemon, and removes what they leave; safe to call twice."""
        daemon, self._daemon = self._daemon, None
        try:
            if daemon is not None and daemon.alive:
                with contextlib.suppress(grpc.RpcError):
                    self._remove_pods()
        finally:
            if self._channel is not None:
                self._channel.close()
                self._channel = None
            if daemon is not None:
                daemon.stop()
            containerd_cgroups.remove(self._pod_uids)
            self._pod_uids.clear()
            if self._remove_state and self._lock is not None:
                shutil.rmtree(self.state, ignore_errors=True)
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _remove_pods(self) -> None:
        for pod in self._runtime.ListPodSandbox(
            cri.ListPodSandboxRequest(), timeout=_CALL_SECONDS
        ).items:
            self._pod_uids.add(pod.metadata.uid)
            self._remove_pod(pod.id)

    def _remove_pod(self, pod_id: str) -> None:
        request = cri.StopPodSandboxRequest(pod_sandbox_id=pod_id)
        self._runtime.StopPodSandbox(request, timeout=_CALL_SECONDS)
        removal = cri.RemovePodSandboxRequest(pod_sandbox_id=pod_id)
        self._runtime.RemovePodSandbox(removal, timeout=_CALL_SECONDS)

    def import_image(self, archive: Path, name: str) -> None:
        """Imports an OCI archive; afterwards CRI knows it by ``name`` and by its manifest digest.

        Raises:
            ContainerdError: containerd refuses the archive or it holds another tag.
        """
        base, _, _ = name.rpartition(":")
        command = ["ctr", "--address", str(self._socket), "--namespace", NAMESPACE, "images",
                   "import", "--digests", "--base-name", base, str(archive)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            text = done.stderr.decode(errors="replace").strip()
            raise ContainerdError(f"containerd refuses {archive}: {text}")
        # The CRI learns of new images by an event, a moment after the import.
        deadline = time.monotonic() + 5
        while not (image := self._image(name)) or not image.repo_digests:
            if time.monotonic() > deadline:
                raise ContainerdError(f"{archive} was imported but holds no image {name}")
            time.sleep(0.02)

    def remove_image(self, name: str) -> None:
        """Removes an image under all of its names; containers of it run on.

        Raises:
            ContainerdError: containerd refuses.
        """
        request = cri.RemoveImageRequest(image=cri.ImageSpec(image=name))
        with _explained(f"cannot remove image {name}"):
            self._images.RemoveImage(request, timeout=_CALL_SECONDS)

    def digests(self, image: str) -> ImageDigests:
        """By which digests containerd knows an image.

        Raises:
            ContainerdError: it has no such image.
        """
        found = self._image(image)
        if found is None:
            raise ContainerdError(f"containerd has no image {image}: import it first")
        manifests = {parse_digest(ref.rpartition("@")[2]) for ref in found.repo_digests}
        return ImageDigests(parse_digest(found.id), tuple(sorted(manifests)))

    def _image(self, name: str) -> Any | None:
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name))
        with _explained(f"cannot look up image {name}"):
            response = self._images.ImageStatus(request, timeout=_CALL_SECONDS)
        return response.image if response.HasField("image") else None

    def run(
        self,
        image: str,
        name: str,
        *,
        namespace: str = "default",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
        annotations: Mapping[str, str] | None = None,
        beside: Container | None = None,
    ) -> Container:
        """Starts a container in a pod of the same name, on the host's network.

        ``args`` replace the image's command, not its entry point; ``annotations`` are the pod's.
        ``beside`` is the first container of a pod, in which this one is started then.

        Raises:
            ContainerdError: the image is unknown or the program cannot be started.
        """
        uid = beside.pod_uid if beside else str(uuid.uuid4())
        pod_name, namespace = (beside.name, beside.namespace) if beside else (name, namespace)
        pod = pod_config(pod_name, namespace, uid, self.state / "logs" / uid, annotations)
        container = container_config(image, name, pod, args, env or {}, mounts)
        self._pod_uids.add(uid)
        with _explained(f"cannot run {image} as {name}"):
            request = cri.RunPodSandboxRequest(config=pod)
            pod_id = (
                beside.pod_id
                if beside
                else self._runtime.RunPodSandbox(request, timeout=_CALL_SECONDS).pod_sandbox_id
            )
            try:
                creation = cri.CreateContainerRequest(
                    pod_sandbox_id=pod_id, config=container, sandbox_config=pod
                )
                created = self._runtime.CreateContainer(creation, timeout=_CALL_SECONDS)
                start = cri.StartContainerRequest(container_id=created.container_id)
                self._runtime.StartContainer(start, timeout=_CALL_SECONDS)
            except BaseException:
                if beside is None:
                    with contextlib.suppress(grpc.RpcError):
                        self._remove_pod(pod_id)
                raise
        log = Path(pod.log_directory, container.log_path)
        return Container(created.container_id, pod_id, uid, namespace, name, image, log)

    def stop(self, container: Container, grace_seconds: int = 2) -> None:
        """SIGTERM, SIGKILL after the grace, and removal of the container and its pod."""
        with _explained(f"cannot stop {container.name}"):
            request = cri.StopContainerRequest(container_id=container.id, timeout=grace_seconds)
            self._runtime.StopContainer(request, timeout=grace_seconds + _CALL_SECONDS)
            self._remove_pod(container.pod_id)
        containerd_cgroups.remove({container.pod_uid})
        self._pod_uids.discard(container.pod_uid)

    def exec(
        self, container: Container, argv: Sequence[str], timeout_seconds: int = 60
    ) -> ExecResult:
        """Runs a command in a running container and waits for its end.

        Raises:
            ContainerdError: there is no such program, or it took too long (and was killed).
        """
        request = cri.ExecSyncRequest(
            container_id=container.id, cmd=list(argv), timeout=timeout_seconds
        )
        with _explained(f"cannot run {argv[0]} in {container.name}"):
            done = self._runtime.ExecSync(request, timeout=timeout_seconds + _CALL_SECONDS)
        return ExecResult(done.stdout, done.stderr, done.exit_code)

    def pid(self, container: Container) -> int:
        """The host's id of the container's first process.

        Raises:
            ContainerdError: it runs no more.
        """
        request = cri.ContainerStatusRequest(container_id=container.id, verbose=True)
        with _explained(f"cannot look up container {container.name}"):
            response = self._runtime.ContainerStatus(request, timeout=_CALL_SECONDS)
        if response.status.state != cri.CONTAINER_RUNNING:
            raise ContainerdError(
                f"{container.name} runs no more (exit code {response.status.exit_code}); "
                f"see {container.log}"
            )
        return int(json.loads(response.info["info"])["pid"])

    @property
    def _runtime(self) -> Any:
        return _services.RuntimeServiceStub(self._open_channel())

    @property
    def _images(self) -> Any:
        return _services.ImageServiceStub(self._open_channel())

    def _open_channel(self) -> grpc.Channel:
        if self._channel is None:
            raise ContainerdError("containerd is not started")
        return self._channel

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise ContainerdError(f"{what}: {error.details()}") from error
