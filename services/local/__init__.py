"""vexstream on one machine without Docker or Kubernetes: what ``vexstream up`` and the tests start.

process.py starts and stops daemons, image.py builds images without pulling any, containerd.py runs
them. Nothing here is part of a production installation.
"""
