"""Every Prometheus metric of every service, in one place."""

from prometheus_client import Counter, Gauge, Histogram

# collector
EVENTS = Counter("vexstream_collector_events", "Kernel events read", ["outcome"])
"""outcome: attributed, neighbour (another container's file was run), image_volume (of a mounted
image), unattributed, volume (code on another file system than the image's), not_image (anything
else there)"""
LOST_EVENTS = Counter(
    "vexstream_collector_lost_events", "Kernel events known to be lost", ["reason"]
)
IGNORED_EVENTS = Counter(
    "vexstream_collector_ignored_events", "Uses of files that no image can hold", ["reason"]
)
"""reason: memory_file (executed or mapped executable from memfd or tmpfs)"""
REFUSED_ANNOTATIONS = Counter(
    "vexstream_collector_refused_annotations",
    "Pod annotations whose value means nothing",
    ["annotation"],
)
CONTAINERS = Gauge("vexstream_collector_containers", "Containers being watched")
UNNAMED_CONTAINERS = Gauge(
    "vexstream_collector_unnamed_containers",
    "Containers of an image that nobody can name",
)
BATCHES = Counter("vexstream_collector_batches", "Batches handed to Kafka")
WAITING_ROUNDS = Gauge(
    "vexstream_collector_waiting_rounds", "Rounds of batches that Kafka has not taken"
)

# scanner
SCANS = Counter("vexstream_scanner_scans", "Scans ended", ["outcome"])
DATABASE_BUILT = Gauge(
    "vexstream_scanner_database_built_timestamp_seconds",
    "When Grype's database was built, in seconds since 1970; 0 without one",
)
SCAN_SECONDS = Histogram(
    "vexstream_scanner_scan_seconds", "Time of one scan", buckets=(1, 5, 15, 60, 300)
)
SCANS_RUNNING = Gauge("vexstream_scanner_scans_running", "Scans under way")
SCAN_STEP = Gauge(
    "vexstream_scanner_step_seconds", "How long the present step of a scan has taken", ["step"]
)

# correlator
ACCESSES = Counter("vexstream_correlator_accesses", "File accesses merged")
MERGED_BATCHES = Counter(
    "vexstream_correlator_batches", "Batches of file accesses merged, heartbeats too"
)
DIGESTS = Gauge("vexstream_correlator_digests", "Image digests held")
DOCUMENTS = Counter("vexstream_correlator_documents", "Documents published")
SKIPPED_RECORDS = Counter(
    "vexstream_correlator_skipped_records", "Records the stream had skipped, read after all"
)
UNREADABLE = Gauge(
    "vexstream_correlator_unreadable_records",
    "Unreadable records because of which nothing is ruled out of some images",
)
REMEMBERED_NAMELESS = Gauge(
    "vexstream_correlator_remembered_nameless_containers",
    "Containers of images that nobody can name, remembered for images that come later, on each of "
    "the worker's partitions",
)
NAMELESS_NOT_REMEMBERED = Counter(
    "vexstream_correlator_nameless_not_remembered",
    "Records of such containers for which there was no room: dead letters, and nothing is ruled "
    "out of their partition",
)
FORWARDED_RECORDS = Counter(
    "vexstream_correlator_forwarded_records",
    "Records found on another partition than their image's",
)
DROPPED_SCANS = Counter(
    "vexstream_correlator_dropped_scans",
    "Scans of which parts were dropped, for too many others of their image were on their way",
)
ASSESS_SECONDS = Histogram(
    "vexstream_correlator_assess_seconds",
    "Time of one assessment",
    buckets=(0.001, 0.01, 0.1, 1, 10),
)

# api
PROJECTED = Counter("vexstream_api_projected_documents", "Records written to Postgres", ["outcome"])
"""outcome: written, deleted, unchanged (as new or newer was there), refused (a dead letter)"""
PROJECTION_RESTARTS = Counter(
    "vexstream_api_projection_restarts", "Times the projection had to begin anew", ["reason"]
)
PROJECTION_LAG = Gauge(
    "vexstream_api_projection_lag",
    "Records of its partitions that are still to be projected",
    ["topic"],
)
REQUESTS = Histogram(
    "vexstream_api_request_seconds",
    "Time of one request",
    ["route", "status"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)

# kubescape
KUBESCAPE_RESOURCES = Counter(
    "vexstream_kubescape_resources", "Documents made custom resources", ["outcome"]
)
"""outcome: written, unchanged (as it stood already), deleted, refused (a dead letter)"""

# all
READY = Gauge(
    "vexstream_ready", "1 while the service is ready; of the api, as it last said at /readyz"
)
DEAD_LETTERS = Counter(
    "vexstream_dead_letters", "Records sent to the dead-letter topic", ["topic", "reason"]
)
