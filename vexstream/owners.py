"""Which workload a pod belongs to, by what its labels prove.

A runtime knows a pod's name and labels, not its owner. The controllers of Kubernetes write both, so
a name is only taken for that of an owner's pod where a label of the owner's kind fits it. What is
not proven stays a workload of its own: that asks for more evidence, never for less.

| owner | label | name of the pod |
|---|---|---|
| Deployment | ``pod-template-hash`` | ``<owner>-<hash>-<random>`` |
| DaemonSet | ``controller-revision-hash`` and ``pod-template-generation`` | ``<owner>-<random>`` |
| Job | ``batch.kubernetes.io/job-name`` or ``job-name`` | ``<owner>-[<index>-]<random>`` |
| CronJob | the same; the job is ``<owner>-<minutes since the Unix epoch>``, near its creation | |

Pods with a number of their own (of a StatefulSet, of an indexed job) may have roles of their own, a
primary and its replicas for instance: one is not taken for another.

A pod that somebody made with the labels of an owner's, a copy to debug it for instance, runs
something else, and must not speak for it. So the random part has to be one that Kubernetes makes:
five characters, of which none is a vowel or a ``y``, as a word has.

Sources: kubernetes.io, "Well-Known Labels, Annotations and Taints"; pkg/controller/cronjob,
getJobName; apiserver, pkg/storage/names; apimachinery, pkg/util/rand.
"""

import re
from collections.abc import Mapping

_RANDOM = r"-[bcdfghjklmnpqrstvwxz0-9]{5}"
_NUMBERED = re.compile(r"(.+)-(\d+)\Z")
_MINUTE_US = 60_000_000
_NEAR_MINUTES = 30 * 24 * 60
"""A job may wait long for its start; a date or a number of somebody's is much farther away."""


def owner_of(pod: str, labels: Mapping[str, str], created_at_us: int) -> str:
    """The owner of a pod, else the pod. ``created_at_us`` is when its container was created."""
    template = labels.get("pod-template-hash")
    if template and (found := re.fullmatch(f"(.+)-{re.escape(template)}{_RANDOM}", pod)):
        return found[1]
    if "controller-revision-hash" in labels and "pod-template-generation" in labels:
        found = re.fullmatch(f"(.+){_RANDOM}", pod)
        return found[1] if found else pod
    job = labels.get("batch.kubernetes.io/job-name") or labels.get("job-name")
    if job and (found := re.fullmatch(rf"{re.escape(job)}(-\d+)?{_RANDOM}", pod)):
        return _cron_job(job, created_at_us) + (found[1] or "")
    return pod


def _cron_job(job: str, created_at_us: int) -> str:
    found = _NUMBERED.match(job)
    if found and abs(int(found[2]) - created_at_us // _MINUTE_US) <= _NEAR_MINUTES:
        return found[1]
    return job
