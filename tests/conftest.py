"""What all tests share; the fixtures themselves are in tests/support."""

pytest_plugins = ["tests.support.containers", "tests.support.streams"]
