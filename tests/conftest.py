"""What all tests share; the fixtures themselves are in tests/support."""

from hypothesis import settings

pytest_plugins = [
    "tests.support.validity",  # first: what it wraps must not have been imported
    "tests.support.apiserver",
    "tests.support.collecting",
    "tests.support.containers",
    "tests.support.correlators",
    "tests.support.docker",
    "tests.support.engines",
    "tests.support.probe",
    "tests.support.registry",
    "tests.support.sigstore",
    "tests.support.streams",
    "tests.support.together",
    "tests.support.trivy",
    "tests.unit.tracking",
]

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
